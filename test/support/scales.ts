/** Loaded before a server, it logs the memory in use as one line, at each SIGUSR2. */
process.on('SIGUSR2', () => {
  globalThis.gc!()
  const { heapUsed, external, rss } = process.memoryUsage()
  process.stderr.write(`${JSON.stringify({ weighed: { kept: heapUsed + external, resident: rss } })}\n`)
})
