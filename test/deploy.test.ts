import { spawn, spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const read = (path: string) => readFileSync(join(root, path), 'utf8')

/** `docker compose` (v2) where it is installed, else Debian's docker-compose. */
function findCompose(): string[] | undefined {
  const candidates = [['docker', 'compose'], ['docker-compose']]
  return candidates.find(([program = '', ...rest]) => spawnSync(program, [...rest, 'version']).status === 0)
}

const compose = findCompose()
/** A developer's own .env must not fill in what a test leaves out. */
const emptyEnvFile = join(t.testdir({ env: '' }), 'env')
const noCompose = compose === undefined && 'docker compose is not installed: apt-get install docker-compose'

function composeConfig(env: Record<string, string>) {
  const [program = '', ...rest] = compose ?? []
  const args = [...rest, '--env-file', emptyEnvFile, 'config']
  return spawnSync(program, args, { cwd: root, encoding: 'utf8', env: { PATH: process.env.PATH, ...env } })
}

t.test('the compose file', { skip: noCompose }, (t) => {
  const secrets = { JWT_SECRET: 'jwt-secret', OPENAI_API_KEY: 'sk-key' }

  t.test('is valid with both secrets, publishes on loopback only and keeps the sandbox options', (t) => {
    const { status, stdout, stderr } = composeConfig(secrets)
    t.equal(status, 0, stderr)
    t.match(stdout, /127\.0\.0\.1/)
    for (const option of ['no-new-privileges:true', 'systempaths=unconfined', 'seccomp', 'read_only: true']) {
      t.match(stdout, option)
    }
    t.match(stdout, /cap_drop:\s+- ALL/)
    t.match(stdout, /store:\s+internal: true/)
    t.end()
  })

  t.test('refuses to start without either secret, or with an empty one, and names it', (t) => {
    for (const name of ['JWT_SECRET', 'OPENAI_API_KEY'] as const) {
      const { [name]: _, ...others } = secrets
      for (const env of [others, { ...others, [name]: '' }]) {
        const { status, stderr } = composeConfig(env)
        t.not(status, 0)
        t.match(stderr, new RegExp(`set ${name}`))
      }
    }
    t.end()
  })
  t.end()
})

t.test('the seccomp profile is an allow-list that adds five calls and opens no kernel door besides', (t) => {
  interface Rule {
    names: string[]
    action: string
    comment: string
    args?: unknown[]
  }
  const profile = JSON.parse(read('docker/seccomp.json')) as { defaultAction: string; syscalls: Rule[] }
  t.equal(profile.defaultAction, 'SCMP_ACT_ERRNO')

  const allowed = profile.syscalls.filter((rule) => rule.action === 'SCMP_ACT_ALLOW')
  const added = allowed.filter((rule) => rule.comment.startsWith('ADDED')).flatMap((rule) => rule.names)
  t.same(added.sort(), ['clone', 'mount', 'pivot_root', 'umount2', 'unshare'])
  t.same([...new Set(profile.syscalls.map((rule) => rule.action))].sort(), ['SCMP_ACT_ALLOW', 'SCMP_ACT_ERRNO'])
  t.ok(
    profile.syscalls.every((rule) => rule.comment !== ''),
    'every rule says what it is for'
  )

  const names = new Set(allowed.flatMap((rule) => rule.names))
  const doors =
    'bpf clone3 fsopen init_module io_uring_setup kexec_load keyctl open_by_handle_at perf_event_open ptrace'
  for (const name of `${doors} process_vm_readv process_vm_writev reboot setns swapon userfaultfd`.split(' ')) {
    t.notOk(names.has(name), name)
  }
  for (const name of ['execve', 'landlock_restrict_self', 'seccomp', 'futex', 'openat']) t.ok(names.has(name), name)
  t.end()
})

t.test('the image', (t) => {
  const dockerfile = read('Dockerfile')
  const lines = dockerfile.split('\n')

  t.test('is pinned, runs as a user of its own, and says when it is healthy', (t) => {
    t.match(dockerfile, /^ARG BASE_IMAGE=node:\d+\.\d+\.\d+-bookworm-slim$/m)
    const from = lines.filter((line) => line.startsWith('FROM '))
    t.ok(from.length === 2 && from.every((line) => line.startsWith(`FROM \${BASE_IMAGE}`)))
    t.match(dockerfile, /^USER 10001:10001$/m)
    t.ok(
      dockerfile.lastIndexOf('\nUSER ') > dockerfile.lastIndexOf('\nRUN '),
      'no step of the final image follows as root'
    )
    t.match(dockerfile, /^STOPSIGNAL SIGTERM$/m)
    t.match(dockerfile, /NODE_ENV=production/)
    t.match(dockerfile, /npm prune --omit=dev/)
    t.end()
  })

  t.test('starts what holds keys from programs that its own user cannot read, so that /proc gives no key away', (t) => {
    t.match(dockerfile, /^CMD \["gateway-node", "dist\/server\.js"\]$/m)
    t.match(dockerfile, /^HEALTHCHECK .*CMD \["gateway-node", "docker\/healthcheck\.mjs"\]$/m)
    t.match(dockerfile, /install -m 0711 "\$\(command -v node\)" \/usr\/local\/bin\/gateway-node/)
    t.match(dockerfile, /chmod 0711 "\$\(command -v tini\)"/)
    t.match(dockerfile, /chmod 0711 node_modules\/@openai\/codex-\*\/vendor\/\*\/bin\/codex/)
    t.end()
  })

  t.test('has every package that the built code imports', (t) => {
    const { include } = JSON.parse(read('tsconfig.build.json')) as { include: string[] }
    const { dependencies } = JSON.parse(read('package.json')) as { dependencies: Record<string, string> }
    const sources = include.flatMap((path) =>
      path.endsWith('.ts')
        ? [path]
        : readdirSync(join(root, path), { recursive: true, encoding: 'utf8' })
            .filter((name) => name.endsWith('.ts'))
            .map((name) => join(path, name))
    )
    t.ok(sources.length > 50)
    for (const source of sources) {
      const imports = read(source).matchAll(/^(?:import|export)(?! type )[^'"]*?from '([^.'][^']*)'/gm)
      for (const [, specifier = ''] of imports) {
        if (specifier.startsWith('node:')) continue
        const [name] = /^(@[^/]+\/)?[^/]+/.exec(specifier) ?? []
        t.ok(
          dependencies[name ?? ''],
          `${source} imports ${specifier}, which dependencies must name: the image has no others`
        )
      }
    }
    t.end()
  })

  t.test('takes from the checkout only what its build names', (t) => {
    const rules = read('.dockerignore')
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
    t.equal(rules[0], '*', 'everything is left out first')
    const { include } = JSON.parse(read('tsconfig.build.json')) as { include: string[] }
    for (const path of ['package.json', 'package-lock.json', 'tsconfig.json', 'tsconfig.build.json', ...include]) {
      t.ok(rules.includes(`!${path}`), `${path} reaches the build`)
    }
    t.notOk(rules.some((rule) => /\.env|\.git|node_modules|test/.test(rule)))
    t.end()
  })
  t.end()
})

t.test('the health check tells a healthy gateway from a failing and an absent one', async (t) => {
  let status = 200
  const server = createServer((request, response) =>
    response.writeHead(request.url === '/health' ? status : 404).end('{}')
  )
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  t.equal(await healthcheck(port), 0)
  status = 503
  t.equal(await healthcheck(port), 1)
  server.close()
  t.equal(await healthcheck(port), 1)
})

function healthcheck(port: number): Promise<number | null> {
  const child = spawn(process.execPath, ['docker/healthcheck.mjs'], {
    cwd: root,
    env: { PORT: String(port) },
    stdio: 'ignore'
  })
  return new Promise((resolve) => child.once('exit', resolve))
}
