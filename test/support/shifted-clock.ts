/**
 * A module that is loaded before a server. It sets the clock of the process ahead by `DOORBELL_TEST_CLOCK_AHEAD`
 * milliseconds (back if negative), and makes it run `DOORBELL_TEST_CLOCK_PACE` times as fast.
 */
const ahead = Number(process.env.DOORBELL_TEST_CLOCK_AHEAD ?? 0)
const pace = Number(process.env.DOORBELL_TEST_CLOCK_PACE ?? 1)
const { Date: MachineDate } = globalThis
const begin = MachineDate.now()

const machineElapsed = performance.now.bind(performance)
performance.now = () => machineElapsed() * pace

const now = () => Math.floor(begin + (MachineDate.now() - begin) * pace + ahead)

globalThis.Date = class extends MachineDate {
  constructor(...given: unknown[]) {
    if (given.length === 0) super(now())
    else super(...(given as [string]))
  }

  static override now(): number {
    return now()
  }
} as DateConstructor
