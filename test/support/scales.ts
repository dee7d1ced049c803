/** Loaded before a server, it says how much memory that needs, as a line of its log, whenever it is sent SIGUSR2. */
process.on('SIGUSR2', () => {
  globalThis.gc!()
  const { heapUsed, external, rss } = process.memoryUsage()
  process.stderr.write(`${JSON.stringify({ weighed: { kept: heapUsed + external, resident: rss } })}\n`)
})
