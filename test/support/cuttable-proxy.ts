import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import type { Teardown } from './gateway.ts'

/** One connection through the proxy. */
export interface ProxiedConnection {
  /**
   * From here on everything that either side sends is lost, and neither learns of it: a network that is gone.
   * `discard`: what the far side has sent still leaves it; `hold`: it stays in its buffers, unacknowledged.
   */
  silence(how: 'discard' | 'hold'): void
  /** The side of the gateway has ended it. */
  readonly droppedByGateway: Promise<void>
}

export interface CuttableProxy {
  /** `127.0.0.1:<port>`. */
  address: string
  /** The newest connection. */
  last(): ProxiedConnection
}

/** A TCP proxy in front of a gateway whose connections can be made half-open. */
export async function startCuttableProxy(t: Teardown, target: string): Promise<CuttableProxy> {
  const connections: ProxiedConnection[] = []
  const sockets = new Set<Socket>()
  const [host, port] = target.split(':') as [string, string]
  const server = createServer((near) => {
    const far = connect(Number(port), host)
    for (const socket of [near, far]) {
      sockets.add(socket.setNoDelay(true).on('error', () => {}))
      socket.once('close', () => sockets.delete(socket))
    }
    connections.push(join(near, far))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    last: () => connections.at(-1) as ProxiedConnection
  }
}

function join(near: Socket, far: Socket): ProxiedConnection {
  near.pipe(far)
  far.pipe(near)
  // An end on one side is the end of the other, unless nothing passes any more.
  const endNear = () => near.destroy()
  const endFar = () => far.destroy()
  far.once('close', endNear)
  near.once('close', endFar)
  return {
    silence(how) {
      near.unpipe(far)
      far.unpipe(near)
      far.off('close', endNear)
      near.off('close', endFar)
      near.resume()
      if (how === 'discard') far.resume()
      else far.pause()
    },
    droppedByGateway: new Promise((resolve) => far.once('close', () => resolve()))
  }
}
