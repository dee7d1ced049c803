/**
 * `npm run sbom`: writes a software bill of materials of an installed package, in CycloneDX, from the installed
 * packages and `package-lock.json`. npm creates it; this script adds the published name of the package and its address.
 *
 *     npm run sbom                    writes dist/sbom.cdx.json
 *     npm run sbom -- --out FILE      writes it elsewhere
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { parseArgs } from 'node:util'

interface Component {
  'bom-ref': string
  name: string
  version: string
  properties?: { name: string; value: string }[]
}

interface Bill {
  metadata: { component: Component }
  components: Component[]
  dependencies: { ref: string; dependsOn?: string[] }[]
}

interface Locked {
  version: string
  dev?: boolean
  devOptional?: boolean
}

const { values } = parseArgs({ options: { out: { type: 'string', default: 'dist/sbom.cdx.json' } } })
const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8')) as { packages: Record<string, Locked> }
const shipped = new Set(
  Object.entries(packages)
    .filter(([, { dev, devOptional }]) => !dev && !devOptional)
    .map(
      ([path, { version }]) => `${path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length)}@${version}`,
    ),
)
// With --omit=dev, npm also omits packages that are needed at run time, if a development dependency needs them too.
const made = execFileSync('npm', ['sbom', '--sbom-format=cyclonedx', '--sbom-type=application'], {
  encoding: 'utf8',
  maxBuffer: 64 * 1024 * 1024,
  stdio: ['ignore', 'pipe', 'inherit'],
})
const bill = JSON.parse(made) as Bill
// npm uses the name of the folder.
bill.metadata.component.name = (JSON.parse(readFileSync('package.json', 'utf8')) as { name: string }).name
bill.components = bill.components.filter(isInstalled)
const refs = new Set([bill.metadata.component, ...bill.components].map((component) => component['bom-ref']))
bill.dependencies = bill.dependencies
  .filter(({ ref }) => refs.has(ref))
  .map(({ ref, dependsOn = [] }) => ({ ref, dependsOn: dependsOn.filter((each) => refs.has(each)) }))
mkdirSync(dirname(values.out), { recursive: true })
writeFileSync(values.out, `${JSON.stringify(bill, undefined, 2)}\n`)
console.log(`${bill.components.length} components in ${values.out}`)

/** Returns whether it is installed with the package: neither a development dependency nor an optional peer dependency. */
function isInstalled({ name, version, properties = [] }: Component): boolean {
  const isMarked = properties.some(
    (property) => property.name === 'cdx:npm:package:development' && property.value === 'true',
  )
  return !isMarked && shipped.has(`${name}@${version}`)
}
