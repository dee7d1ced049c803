/** Loaded before a server, it makes the machine's clock go ahead by `DOORBELL_TEST_CLOCK_AHEAD` milliseconds, or behind. */
const ahead = Number(process.env.DOORBELL_TEST_CLOCK_AHEAD ?? 0)
const { Date: MachineDate } = globalThis

globalThis.Date = class extends MachineDate {
  constructor(...given: unknown[]) {
    if (given.length === 0) super(MachineDate.now() + ahead)
    else super(...(given as [string]))
  }

  static override now(): number {
    return MachineDate.now() + ahead
  }
} as DateConstructor
