import Fastify from 'fastify'
import demoModel from '../../plugins/demo-model.ts'

// The scripted model in a process of its own: inside the gateway its cost would count as the gateway's.
const host = Fastify()
await host.register(demoModel)
process.send?.(host.demoModel.baseUrl)
process.once('disconnect', () => process.exit())
