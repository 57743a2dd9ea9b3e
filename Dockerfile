# Cloud Codex: the gateway, the pinned codex and the tools its commands need. docs/DEPLOY.md says how to run it:
# the sandbox needs three run-time options that no image can carry.
ARG BASE_IMAGE=node:22.23.3-bookworm-slim

FROM ${BASE_IMAGE} AS build
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY . .
# chmod: see the final image.
RUN npm run build \
  && npm prune --omit=dev --ignore-scripts --no-audit --no-fund \
  && chmod 0711 node_modules/@openai/codex-*/vendor/*/bin/codex

FROM ${BASE_IMAGE}
# bash and git: codex runs every command by `bash -lc` and reads repositories. tini: see ENTRYPOINT.
# Not lsb-release: codex would run that script twice at every start, about ten processes each time.
RUN apt-get update \
  && apt-get install -y --no-install-recommends bash bubblewrap ca-certificates git tini \
  && rm -rf /var/lib/apt/lists/* \
  && groupadd --gid 10001 codex \
  && useradd --uid 10001 --gid 10001 --create-home --shell /bin/bash codex \
  && install -d -o 10001 -g 10001 -m 0700 /data \
  && install -d /home/codex/.agents/skills /etc/codex/skills
# Without /etc/codex/skills and ~/.agents/skills every idle codex watches /etc and ~ and wakes at each read there.
# The kernel hides the environment and memory of a process from others of its user when that user may not read its
# program: so a command that got out of its sandbox finds no key in /proc, neither the gateway's (a copy of node under
# another name: the commands keep theirs) nor the one that codex holds.
RUN install -m 0711 "$(command -v node)" /usr/local/bin/gateway-node && chmod 0711 "$(command -v tini)"

WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY docker/healthcheck.mjs ./docker/

ENV NODE_ENV=production \
  DATA_DIR=/data \
  HOME=/home/codex
USER 10001:10001
VOLUME /data
EXPOSE 3000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["gateway-node", "docker/healthcheck.mjs"]
# The gateway handles SIGTERM itself (close-with-grace), but as process 1 it would also inherit the children of every
# codex that was killed and never reap them: tini passes signals on and reaps.
ENTRYPOINT ["tini", "--"]
CMD ["gateway-node", "dist/server.js"]
