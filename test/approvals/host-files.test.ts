import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { decide } from '../../src/approvals/decide.ts'
import { configProblem } from '../../src/approvals/git-config.ts'
import { createFileView, hostFiles, resolveHostPath } from '../../src/approvals/host-files.ts'
import { requestFromEvaluate } from '../../src/approvals/request.ts'
import { compileRules } from '../../src/approvals/rules.ts'

function scratch(t: Test): string {
  const directory = realpathSync(mkdtempSync(join(tmpdir(), 'cc-files-')))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

/** No setting of this machine or user takes part. */
function git(cwd: string, ...args: string[]): void {
  const env = { PATH: process.env.PATH, HOME: '/nonexistent', GIT_CONFIG_NOSYSTEM: '1', GIT_CONFIG_GLOBAL: '/dev/null' }
  const identity = ['-c', 'user.name=a', '-c', 'user.email=a@example.com', '-c', 'protocol.file.allow=always']
  execFileSync('git', [...identity, ...args], { cwd, env, stdio: 'pipe' })
}

t.test('a path is resolved as the kernel walks it', async (t) => {
  const directory = scratch(t)
  mkdirSync(join(directory, 'a/b'), { recursive: true })
  mkdirSync(join(directory, 'other/deep'), { recursive: true })
  writeFileSync(join(directory, 'a/file'), '')
  symlinkSync('../other/deep', join(directory, 'a/link'))
  symlinkSync('/etc', join(directory, 'a/etc'))
  symlinkSync('nowhere/x', join(directory, 'a/dangling'))
  symlinkSync('/nonexistent/secret', join(directory, 'a/outside'))
  symlinkSync('loop', join(directory, 'a/loop'))
  symlinkSync('/proc/self/cwd', join(directory, 'a/self'))
  const at = (path: string): string | undefined => resolveHostPath(`${directory}/${path}`)
  t.equal(at('a/./b//'), `${directory}/a/b`)
  t.equal(at('a/link/x'), `${directory}/other/deep/x`)
  t.equal(at('a/link/../y'), `${directory}/other/y`, 'the parent of the target')
  t.equal(at('a/etc/hosts'), realpathSync('/etc/hosts'))
  t.equal(at('a/new/file'), `${directory}/a/new/file`, 'what does not exist stays as written')
  t.equal(at('a/new/../link'), `${directory}/other/deep`, 'a link behind a missing name is still followed')
  t.equal(at('a/dangling'), `${directory}/a/nowhere/x`, 'a link to nothing is where it points')
  t.equal(at('a/outside'), '/nonexistent/secret')
  t.equal(at('a/loop'), undefined)
  t.equal(at('a/file/x'), undefined, 'below a file there is nothing')
  t.equal(at('a/self/x'), undefined, 'a link that means another directory in every process')
  t.equal(resolveHostPath('/dev/stdin'), undefined)
  t.equal(resolveHostPath('relative'), undefined)
  t.equal(resolveHostPath('/'), '/')
  t.equal(resolveHostPath('/../..'), '/')
  t.ok(hostFiles.isDirectory(`${directory}/a/link`))
  t.notOk(hostFiles.isDirectory(`${directory}/a/file`))
})

t.test('links are followed in the namespace of codex, not of the host', async (t) => {
  const directory = scratch(t)
  mkdirSync(join(directory, 'src'))
  symlinkSync('/workspace/src', join(directory, 'inner'))
  symlinkSync('/codex-home/auth.json', join(directory, 'home'))
  symlinkSync('/tmp/private', join(directory, 'tmp'))
  const view = createFileView([
    { at: '/usr', host: '/usr' },
    { at: '/workspace', host: directory },
    { at: '/codex-home', host: join(directory, 'nowhere') },
    { at: '/tmp', host: null }
  ])
  t.equal(view.resolve('/workspace/inner/a'), '/workspace/src/a')
  t.equal(view.resolve('/workspace/home'), '/codex-home/auth.json', 'although the host has no such file')
  t.equal(view.resolve('/workspace/tmp'), undefined, 'a mount the gateway cannot look into')
  t.equal(view.resolve('/srv/x'), undefined, 'a place that is not mounted')
  t.ok(view.isDirectory('/workspace/inner'))
  const context = { ...view, now: 0, protectedRoots: ['/codex-home'] }
  const judge = (command: string) =>
    decide(requestFromEvaluate({ kind: 'command', command }, '/workspace'), compileRules([]), context).verdict
  t.same(['ls', 'ls inner', 'cat inner/a'].map(judge), ['accept', 'accept', 'accept'])
  t.same(['cat home', 'cat tmp/x', 'ls /tmp', 'ls /usr'].map(judge), ['ask', 'ask', 'ask', 'ask'])
})

t.test('a repository is proved by what git would read', async (t) => {
  const directory = scratch(t)
  const repository = join(directory, 'repository')
  mkdirSync(join(repository, 'sub'), { recursive: true })
  t.same(hostFiles.inspectRepository(repository), { state: 'none' })
  git(repository, 'init', '-q')
  t.same(hostFiles.inspectRepository(repository), { state: 'plain' })
  writeFileSync(join(repository, 'a'), 'a\n')
  git(repository, 'add', 'a')
  git(repository, 'remote', 'add', 'origin', 'https://example.com/x')
  t.same(hostFiles.inspectRepository(repository), { state: 'plain' }, 'with an index and a remote')
  t.match(hostFiles.inspectRepository(join(repository, 'sub')), { state: 'unproven', reason: /above/ })
  git(repository, 'config', 'diff.external', './x')
  t.match(hostFiles.inspectRepository(repository), { state: 'unproven', reason: /"diff\.external"/ })
  git(repository, 'config', '--unset', 'diff.external')
  writeFileSync(join(repository, '.git/commondir'), '../x')
  t.match(hostFiles.inspectRepository(repository), { state: 'unproven', reason: /second configuration/ })

  const linked = join(directory, 'linked')
  mkdirSync(linked)
  writeFileSync(join(linked, '.git'), `gitdir: ${repository}/.git\n`)
  t.match(hostFiles.inspectRepository(linked), { state: 'unproven', reason: /not a directory/ })
  const bare = join(directory, 'bare')
  git(directory, 'init', '-q', '--bare', bare)
  t.match(hostFiles.inspectRepository(bare), { state: 'unproven', reason: /itself a git directory/ })
})

t.test('a submodule of its own configuration keeps git from being accepted', async (t) => {
  const directory = scratch(t)
  const inner = join(directory, 'inner')
  const outer = join(directory, 'outer')
  git(directory, 'init', '-q', inner)
  writeFileSync(join(inner, 'f'), 'a\n')
  git(inner, 'add', 'f')
  git(inner, 'commit', '-q', '-m', 'x')
  git(directory, 'init', '-q', outer)
  git(outer, 'submodule', '--quiet', 'add', inner, 'sub')
  git(outer, 'config', '--remove-section', 'submodule.sub')
  t.match(hostFiles.inspectRepository(outer), { state: 'unproven', reason: /submodules/ })
})

t.test('the configuration of a repository is harmless only line by line', async (t) => {
  const plain = '[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n'
  const remote = '[remote "origin"]\n\turl = https://example.com/x\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n'
  const branch = '# note\n[branch "main"]\n\tremote = origin\n\tmerge = refs/heads/main\n[user]\n\tname = A B\n'
  t.equal(configProblem(plain + remote + branch), undefined)
  t.equal(configProblem(''), undefined)
  t.equal(configProblem(plain.replaceAll('\n', '\r\n')), undefined)
  const bad = [
    '[core]\n\tfsmonitor = ./x',
    '[CORE]\n\tFsMonitor = ./x',
    '[core]\n\tsshCommand = x',
    '[core] fsmonitor = ./x',
    '[core]\n\tbare = false\\\n\tfsmonitor = x',
    '[core]\n\tpager',
    '[include]\n\tpath = x',
    '[includeIf "gitdir:/"]\n\tpath = x',
    '[diff "x"]\n\ttextconv = x',
    '[filter "x"]\n\tclean = x',
    '[alias]\n\tx = !id',
    '[gpg]\n\tprogram = x',
    '[extensions]\n\tworktreeConfig = true',
    '[submodule "x"]\n\turl = x',
    '[remote "origin"]\n\tuploadpack = x',
    '[remote "x"]\n\turl = x\n\tvcs = ext',
    '[core.x]\n\ty = 1',
    '[core "x"]\n\tbare = false',
    'bare = false',
    '[core'
  ]
  for (const config of bad) t.type(configProblem(config), 'string', JSON.stringify(config))
})
