/**
 * A synchronous standby is promoted again and again, at random moments under load:
 *
 *     npm run bench:failover [promotions]        100 unless told
 *
 * Counts what was answered 200 and is missing, and what was handed out twice; writes its section of bench/results.md,
 * and ends with 1 unless both are nothing.
 */
import { playPromotions } from '../test/crash/promotions.ts'
import { circumstances, keepSection, table } from './report.ts'

const promotions = Number(process.argv[2] ?? 100)
const atOnce = 12

const { missing, doubled, wrong, facts, seconds } = await playPromotions({ promotions, atOnce, say: console.log })
const section = `## Promotions

\`npm run bench:failover\`: two servers on a primary with a synchronous standby. ${atOnce} flows at once ask, decide and
collect tokens at both servers at the same time, while the primary comes to an end at a random moment and the standby is
promoted; then a new standby is made. What was answered is compared with the tables each time. A 503 is an outcome that its
caller does not know.

${circumstances('18', `${promotions} promotions, ${Math.round(seconds)} s`)}

${table(
  ['what', 'how many'],
  [
    ['**answered 200 and missing**', `**${missing.length}**`],
    ['**handed out twice**', `**${doubled.length}**`],
    ['**answers that no story has**', `**${wrong.length}**`],
    ...Object.entries(facts)
      .sort(([one], [other]) => (one < other ? -1 : 1))
      .map(([what, many]) => [what, String(many)]),
  ],
)}`
console.log(`\n${section}`)
for (const line of [...missing, ...doubled, ...wrong]) console.log(line)
await keepSection('failover', section)
process.exit(missing.length + doubled.length + wrong.length === 0 ? 0 : 1)
