import { runPlan } from './plan.ts'

runPlan('mtls')
