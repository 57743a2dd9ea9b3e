/*
 * Speaks just enough app-server JSONL to measure the gateway without codex's own cost. A drop-in CODEX_BIN.
 *
 *   codex-stand-in app-server    answers requests; a turn whose text holds "flood: N" streams N deltas at pipe speed, one
 *                                with "pace: N US" streams N deltas, one write each, US microseconds apart, whose text is
 *                                the moment they were written (CLOCK_MONOTONIC, ns, 19 digits)
 *   codex-stand-in lines N       writes the lines of "flood: N" to stdout: the same input for anything else that relays
 *   codex-stand-in --version
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define THREAD_ID "01a20200-22ec-74b0-b8c1-16a53caecca5"
#define TURN_ID "01a20200-3333-74b0-b8c1-16a53caecca5"
#define WRITE_BYTES 65536
#define RING_LINES 8192

static const char *DELTA_FORMAT =
    "{\"method\":\"item/agentMessage/delta\",\"params\":{\"threadId\":\"" THREAD_ID "\",\"turnId\":\"" TURN_ID
    "\",\"itemId\":\"msg_1\",\"delta\":\"%s\"},\"emittedAtMs\":1795329410853}\n";
static const char *TURN_STARTED =
    "{\"method\":\"turn/started\",\"params\":{\"threadId\":\"" THREAD_ID "\",\"turn\":{\"id\":\"" TURN_ID
    "\",\"items\":[],\"status\":\"inProgress\",\"error\":null}},\"emittedAtMs\":1795329410853}\n";
static const char *TURN_COMPLETED =
    "{\"method\":\"turn/completed\",\"params\":{\"threadId\":\"" THREAD_ID "\",\"turn\":{\"id\":\"" TURN_ID
    "\",\"items\":[],\"status\":\"completed\",\"error\":null}},\"emittedAtMs\":1795329410853}\n";
/* As PROTOCOL.md has it for codex under the gateway's config: the gateway compares policy and sandbox with its own. */
static const char *THREAD_REPLY =
    "{\"id\":%s,\"result\":{\"thread\":{\"id\":\"" THREAD_ID "\",\"preview\":\"\",\"ephemeral\":false,"
    "\"modelProvider\":\"bench\",\"createdAt\":1795329410,\"updatedAt\":1795329410,\"status\":{\"type\":\"idle\"},"
    "\"path\":null,\"cwd\":\"/workspace\",\"name\":null,\"turns\":[]},\"model\":\"bench\",\"modelProvider\":\"bench\","
    "\"cwd\":\"/workspace\",\"approvalPolicy\":\"on-request\",\"approvalsReviewer\":\"user\","
    "\"sandbox\":{\"type\":\"workspaceWrite\",\"writableRoots\":[],\"networkAccess\":false,"
    "\"excludeTmpdirEnvVar\":true,\"excludeSlashTmp\":true}}}\n";

static void write_all(const char *bytes, size_t length) {
  while (length > 0) {
    ssize_t written = write(STDOUT_FILENO, bytes, length);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno == EAGAIN) {
      usleep(100);
      continue;
    }
    if (written < 0) exit(0);
    bytes += written;
    length -= (size_t)written;
  }
}

static void write_text(const char *text) { write_all(text, strlen(text)); }

/* All lines are of one length, so they are made once and written from a ring in blocks that end anywhere in a line. */
static void flood(long count) {
  static char *ring;
  static size_t ring_bytes, line_bytes;
  if (ring == NULL) {
    ring = malloc(RING_LINES * 512);
    for (long line = 0; line < RING_LINES; line++) {
      char text[32];
      sprintf(text, "tok%06ld ", line);
      line_bytes = (size_t)sprintf(ring + ring_bytes, DELTA_FORMAT, text);
      ring_bytes += line_bytes;
    }
  }
  size_t position = 0;
  for (size_t left = line_bytes * (size_t)count; left > 0;) {
    size_t length = left < WRITE_BYTES ? left : WRITE_BYTES;
    if (length > ring_bytes - position) length = ring_bytes - position;
    write_all(ring + position, length);
    position = (position + length) % ring_bytes;
    left -= length;
  }
}

static long long now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void pace(long count, long interval_us) {
  struct timespec next;
  clock_gettime(CLOCK_MONOTONIC, &next);
  for (long line = 0; line < count; line++) {
    next.tv_nsec += interval_us * 1000;
    for (; next.tv_nsec >= 1000000000; next.tv_sec++) next.tv_nsec -= 1000000000;
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
    char stamp[32], text[512];
    sprintf(stamp, "%019lld", now_ns());
    sprintf(text, DELTA_FORMAT, stamp);
    write_text(text);
  }
}

static void run_turn(const char *id, const char *request) {
  char reply[512];
  sprintf(reply, "{\"id\":%s,\"result\":{\"turn\":{\"id\":\"" TURN_ID "\",\"items\":[],\"status\":\"inProgress\",\"error\":null}}}\n", id);
  write_text(reply);
  write_text(TURN_STARTED);
  long count = 0, interval_us = 0;
  const char *verb;
  if ((verb = strstr(request, "flood: ")) != NULL && sscanf(verb, "flood: %ld", &count) == 1) flood(count);
  else if ((verb = strstr(request, "pace: ")) != NULL && sscanf(verb, "pace: %ld %ld", &count, &interval_us) == 2) pace(count, interval_us);
  write_text(TURN_COMPLETED);
}

/* The JSON text of the id, or nothing for a notification. */
static int read_id(const char *request, char *id, size_t capacity) {
  const char *at = strstr(request, "\"id\":");
  if (at == NULL) return 0;
  at += strlen("\"id\":");
  size_t length = *at == '"' ? strcspn(at + 1, "\"") + 2 : strcspn(at, ",}");
  if (length >= capacity) return 0;
  memcpy(id, at, length);
  id[length] = 0;
  return 1;
}

static void answer(const char *request) {
  char id[128], reply[2048];
  const char *method = strstr(request, "\"method\":\"");
  if (method == NULL || !read_id(request, id, sizeof id)) return;
  method += strlen("\"method\":\"");
  size_t length = strcspn(method, "\"");
#define IS(name) (length == strlen(name) && memcmp(method, name, length) == 0)
  if (IS("turn/start")) {
    run_turn(id, request);
    return;
  }
  if (IS("initialize"))
    sprintf(reply, "{\"id\":%s,\"result\":{\"userAgent\":\"codex-stand-in/0.169.0\",\"codexHome\":\"/codex-home\",\"platformFamily\":\"unix\",\"platformOs\":\"linux\"}}\n", id);
  else if (IS("thread/start") || IS("thread/resume")) sprintf(reply, THREAD_REPLY, id);
  else sprintf(reply, "{\"id\":%s,\"result\":{\"data\":[],\"nextCursor\":null}}\n", id);
  write_text(reply);
}

static int serve(void) {
  static char input[1 << 20];
  size_t have = 0;
  for (;;) {
    ssize_t received = read(STDIN_FILENO, input + have, sizeof input - have);
    if (received <= 0) return 0;
    have += (size_t)received;
    char *line = input, *end;
    while ((end = memchr(line, '\n', (size_t)(input + have - line))) != NULL) {
      *end = 0;
      answer(line);
      line = end + 1;
    }
    have = (size_t)(input + have - line);
    memmove(input, line, have);
  }
}

int main(int count, char **arguments) {
  const char *verb = count > 1 ? arguments[1] : "";
  if (strcmp(verb, "--version") == 0) return puts("codex-cli 0.169.0") < 0;
  if (strcmp(verb, "lines") == 0 && count > 2) {
    flood(atol(arguments[2]));
    write_text(TURN_COMPLETED);
    return 0;
  }
  return serve();
}
