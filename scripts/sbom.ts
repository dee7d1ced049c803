/**
 * `npm run sbom`: writes the software bill of materials of Doorbell in the format CycloneDX. `npm sbom` creates it from
 * the installed packages and `package-lock.json`. This script sets the published name of Doorbell, and removes
 * components that are not installed together with Doorbell.
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
// --omit=dev is not used: it also omits packages that are needed at run time, if a development dependency needs them
// too.
const made = execFileSync('npm', ['sbom', '--sbom-format=cyclonedx', '--sbom-type=application'], {
  encoding: 'utf8',
  maxBuffer: 64 * 1024 * 1024,
  stdio: ['ignore', 'pipe', 'inherit'],
})
const bill = JSON.parse(made) as Bill
// npm has written the name of the folder instead of the name of the package.
bill.metadata.component.name = (JSON.parse(readFileSync('package.json', 'utf8')) as { name: string }).name
bill.components = bill.components.filter(isInstalled)
const refs = new Set([bill.metadata.component, ...bill.components].map((component) => component['bom-ref']))
bill.dependencies = bill.dependencies
  .filter(({ ref }) => refs.has(ref))
  .map(({ ref, dependsOn = [] }) => ({ ref, dependsOn: dependsOn.filter((each) => refs.has(each)) }))
mkdirSync(dirname(values.out), { recursive: true })
writeFileSync(values.out, `${JSON.stringify(bill, undefined, 2)}\n`)
console.log(`${bill.components.length} components in ${values.out}`)

/**
 * Returns whether a component is installed together with Doorbell: it is neither a development dependency nor an
 * optional peer dependency.
 */
function isInstalled({ name, version, properties = [] }: Component): boolean {
  const isMarked = properties.some(
    (property) => property.name === 'cdx:npm:package:development' && property.value === 'true',
  )
  return !isMarked && shipped.has(`${name}@${version}`)
}
