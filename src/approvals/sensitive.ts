/** Names that hold credentials or are read by programs as instructions: asked wherever they lie, in lower case. */
const SECRET_NAMES = new Set(
  (
    '.ssh .aws .kube .docker .gnupg .azure .gcloud .netrc _netrc .npmrc .yarnrc .yarnrc.yml .pypirc .pgpass .my.cnf ' +
    '.git .git-credentials .codex .agents .vault-token .htpasswd .boto .s3cfg .password-store .terraformrc ' +
    '.bash_history .zsh_history .history .python_history .node_repl_history .psql_history .mysql_history ' +
    'auth.json authorized_keys known_hosts shadow gshadow passwd sudoers secret secrets .secret .secrets ' +
    'credentials .credentials keystore'
  ).split(' ')
)
const SECRET_PREFIXES = ['.env', 'id_', 'secrets.', 'secret.', 'credentials.', 'service-account', 'service_account']
const SECRET_SUFFIXES = '.pem .key .p12 .pfx .jks .keystore .kdbx .ppk .tfstate .age .gpg .asc'.split(' ')

/** Names whose content runs, or steers what runs, when somebody else works with the checkout. */
const EXECUTABLE_NAMES = new Set(
  (
    'hooks .githooks .husky .gitmodules .gitattributes .gitconfig .github .gitlab .gitlab-ci.yml .circleci .buildkite ' +
    '.woodpecker .woodpecker.yml .drone.yml .travis.yml jenkinsfile azure-pipelines.yml bitbucket-pipelines.yml ' +
    '.vscode .idea .devcontainer .envrc .direnv .pre-commit-config.yaml .bashrc .bash_profile .bash_login .profile ' +
    '.zshrc .zprofile .zshenv .inputrc .mcp.json crontab cron.d .config'
  ).split(' ')
)

/** The first component of a path that is asked about whatever is done with it, or undefined. */
export function sensitiveName(path: string): string | undefined {
  return path.split('/').find((name) => isSecret(name.toLowerCase()))
}

/** As {@link sensitiveName}, for paths that would be written: also whatever is run later without anybody looking. */
export function guardedName(path: string): string | undefined {
  return path.split('/').find((name) => isSecret(name.toLowerCase()) || EXECUTABLE_NAMES.has(name.toLowerCase()))
}

function isSecret(name: string): boolean {
  return (
    SECRET_NAMES.has(name) ||
    SECRET_PREFIXES.some((prefix) => name.startsWith(prefix)) ||
    SECRET_SUFFIXES.some((suffix) => name.endsWith(suffix))
  )
}
