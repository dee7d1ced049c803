import { runPlan } from './plan.ts'

runPlan('private_key_jwt')
