import { engines } from '../support/engines.ts'
import { killedAndStopped } from './killing.ts'

// Each engine has a file of its own, so that both run at the same time.
killedAndStopped(engines.find(({ name }) => name === 'postgres')!)
