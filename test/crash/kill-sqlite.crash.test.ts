import { engines } from '../support/engines.ts'
import { killedAndStopped } from './killing.ts'

// The engines have a file each, so that they run at the same time.
killedAndStopped(engines.find(({ name }) => name === 'sqlite')!)
