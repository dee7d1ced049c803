/**
 * `npm run bench:failover`: promotes a synchronous standby again and again, at random moments under load:
 *
 *     npm run bench:failover [promotions]        100 by default; with fewer, only prints the results
 *
 * Counts the results that were answered with 200 but are missing afterwards, the tokens that were issued twice, and all
 * other wrong responses. Writes the section `failover` of bench/results.md. Exits with 1 unless all counts are 0.
 */
import { playPromotions } from '../test/crash/promotions.ts'
import { circumstances, keepSection, table } from './report.ts'

/** The minimum number of promotions for writing the results to bench/results.md. */
const wholeRun = 100

const promotions = Number(process.argv[2] ?? wholeRun)
const atOnce = 12

const { missing, doubled, wrong, facts, seconds } = await playPromotions({ promotions, atOnce, say: console.log })
const section = `## Promotions

\`npm run bench:failover\`: two servers on a primary with a synchronous standby. ${atOnce} flows at once send requests, decide
and redeem tokens at both servers at the same time, while the primary fails at a random moment and the standby is promoted;
then a new standby is added. Each time the responses are compared with the tables. After a 503 the caller does not know the
outcome.

${circumstances('18', `${promotions} promotions, ${Math.round(seconds)} s`)}

${table(
  ['what', 'how many'],
  [
    ['**answered with 200 and missing**', `**${missing.length}**`],
    ['**issued twice**', `**${doubled.length}**`],
    ['**other unexpected responses**', `**${wrong.length}**`],
    ...Object.entries(facts)
      .sort(([one], [other]) => (one < other ? -1 : 1))
      .map(([what, many]) => [what, String(many)]),
  ],
)}`
console.log(`\n${section}`)
for (const line of [...missing, ...doubled, ...wrong]) console.log(line)
if (promotions >= wholeRun) await keepSection('failover', section)
process.exit(missing.length + doubled.length + wrong.length === 0 ? 0 : 1)
