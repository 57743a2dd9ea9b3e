/*
 * WebSocket clients of the gateway (or of the relay) that check what they get and keep nothing.
 *
 *   sink PORT PATH CLIENTS [HELD]      a %d in PATH becomes the client's number; the last HELD clients read nothing
 *
 * Prints {"connected":N} when all are connected. Each line on stdin is a message that the first client sends, and begins
 * a round (the first begins with the connections); a round ends when every client that reads has seen a turn/completed,
 * and is reported as one line of JSON. The line "release" lets the held clients read; the next report is theirs alone.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define READ_BYTES (256 * 1024)
#define BUFFER_BYTES (16 * 1024 * 1024)
#define MAX_LATENCIES 8000000
#define EVENT_OPEN "{\"type\":\"event\",\"seq\":"
#define DELTA ",\"payload\":{\"method\":\"item/agentMessage/delta\""
#define COMPLETED ",\"payload\":{\"method\":\"turn/completed\""
#define GAP_OPEN "{\"type\":\"session/gap\""
/* A paced delta ends with its stamp and this much text after it, the envelope's brace included. */
#define AFTER_STAMP "\"},\"emittedAtMs\":1795329410853}}"
#define STAMP_DIGITS 19
#define STARTS(text, length, prefix) ((length) >= strlen(prefix) && memcmp(text, prefix, strlen(prefix)) == 0)

typedef struct {
  int fd;
  int is_held, is_done;
  char *carry; /* the part of a frame that has come */
  size_t carry_bytes;
  uint64_t last_seq, deltas;
} Client;

typedef struct {
  uint64_t deltas, bytes, lost, doubled, gaps;
  long long first_delta_ns, last_delta_ns;
  double cpu_ms;
  int waiting;
} Round;

static Client *clients;
static int client_count, closed_count;
static Round round_now;
static uint32_t *latencies_us;
static size_t latency_count;
static char buffer[BUFFER_BYTES];

static long long now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static double cpu_ms(void) {
  struct rusage used;
  getrusage(RUSAGE_SELF, &used);
  return (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e3 + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e3;
}

static void fail(const char *what, const char *detail) {
  fprintf(stderr, "sink: %s: %s\n", what, detail);
  exit(1);
}

static int connect_client(int port, const char *path_format, int number, int is_held) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1, small = 64 * 1024;
  /* A held client is held by its own buffer, not by megabytes of the kernel's. */
  if (is_held) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
  if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) fail("connect", strerror(errno));
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  char path[512], request[1024], answer[8192];
  snprintf(path, sizeof path, path_format, number);
  int length = snprintf(request, sizeof request,
                        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                        path, port);
  if (write(fd, request, (size_t)length) != length) fail("request", strerror(errno));
  size_t have = 0;
  /* Byte by byte: what follows the header is frames. */
  while (have < sizeof answer - 1 && read(fd, answer + have, 1) == 1) {
    have++;
    if (have >= 4 && memcmp(answer + have - 4, "\r\n\r\n", 4) == 0) break;
  }
  answer[have] = 0;
  if (strstr(answer, " 101 ") == NULL) fail("not upgraded", answer);
  fcntl(fd, F_SETFL, O_NONBLOCK);
  return fd;
}

/* Sends one masked frame; the mask is zero, which changes nothing. Blocks until it is written. */
static void send_frame(Client *client, int opcode, const char *payload, size_t length) {
  char frame[65536 + 8];
  if (length > 65535) fail("message", "too long");
  size_t at = 0;
  frame[at++] = (char)(0x80 | opcode);
  if (length < 126) frame[at++] = (char)(0x80 | length);
  else {
    frame[at++] = (char)(0x80 | 126);
    frame[at++] = (char)(length >> 8);
    frame[at++] = (char)length;
  }
  memset(frame + at, 0, 4);
  at += 4;
  memcpy(frame + at, payload, length);
  at += length;
  for (size_t sent = 0; sent < at;) {
    ssize_t written = write(client->fd, frame + sent, at - sent);
    if (written < 0 && errno != EAGAIN && errno != EINTR) fail("send", strerror(errno));
    if (written > 0) sent += (size_t)written;
  }
}

static void note_latency(const char *text, size_t length, long long at_ns) {
  size_t tail = strlen(AFTER_STAMP) + STAMP_DIGITS;
  const char *stamp = text + length - tail;
  if (length <= tail || stamp[-1] != '"' || *stamp < '0' || *stamp > '9' || latency_count == MAX_LATENCIES) return;
  latencies_us[latency_count++] = (uint32_t)((at_ns - strtoll(stamp, NULL, 10)) / 1000);
}

static void on_message(Client *client, const char *text, size_t length, long long at_ns) {
  if (STARTS(text, length, GAP_OPEN)) round_now.gaps++;
  if (!STARTS(text, length, EVENT_OPEN)) return;
  const char *at = text + strlen(EVENT_OPEN);
  uint64_t seq = 0;
  while (*at >= '0' && *at <= '9') seq = seq * 10 + (uint64_t)(*at++ - '0');
  if (seq <= client->last_seq) round_now.doubled++;
  else {
    if (client->last_seq != 0) round_now.lost += seq - client->last_seq - 1;
    client->last_seq = seq;
  }
  size_t left = length - (size_t)(at - text);
  if (STARTS(at, left, DELTA)) {
    client->deltas++;
    round_now.deltas++;
    round_now.last_delta_ns = at_ns;
    if (round_now.first_delta_ns == 0) round_now.first_delta_ns = at_ns;
    note_latency(text, length, at_ns);
  } else if (STARTS(at, left, COMPLETED) && !client->is_done) {
    client->is_done = 1;
    round_now.waiting--;
  }
}

/* Reads whole frames and returns how many bytes they were. */
static size_t read_frames(Client *client, const char *bytes, size_t length, long long at_ns) {
  size_t at = 0;
  while (length - at >= 2) {
    const unsigned char *head = (const unsigned char *)bytes + at;
    size_t header = 2, size = head[1] & 127;
    if (size == 126) header = 4;
    if (size == 127) header = 10;
    if (length - at < header) break;
    if (header > 2) size = 0;
    for (size_t i = 2; i < header; i++) size = size << 8 | head[i];
    if (length - at < header + size) break;
    const char *payload = bytes + at + header;
    int opcode = head[0] & 15;
    if (opcode == 9) send_frame(client, 10, payload, size);
    else if (opcode == 8) {
      fprintf(stderr, "sink: closed by the server: %.*s\n", size > 2 ? (int)size - 2 : 0, payload + 2);
    } else on_message(client, payload, size, at_ns);
    at += header + size;
  }
  return at;
}

static void read_client(Client *client) {
  memcpy(buffer, client->carry, client->carry_bytes);
  ssize_t received = read(client->fd, buffer + client->carry_bytes, READ_BYTES);
  if (received < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (received <= 0) {
    close(client->fd);
    closed_count++;
    if (round_now.waiting > 0 && !client->is_done) fail("closed", "in the middle of a round");
    return;
  }
  round_now.bytes += (uint64_t)received;
  size_t have = client->carry_bytes + (size_t)received;
  size_t used = read_frames(client, buffer, have, now_ns());
  client->carry_bytes = have - used;
  if (client->carry_bytes + READ_BYTES > BUFFER_BYTES) fail("frame", "too long");
  client->carry = realloc(client->carry, client->carry_bytes + 1);
  memcpy(client->carry, buffer + used, client->carry_bytes);
}

static int by_size(const void *left, const void *right) {
  uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
  return a < b ? -1 : a > b;
}

static uint32_t latency_at(double share) {
  return latency_count == 0 ? 0 : latencies_us[(size_t)((double)(latency_count - 1) * share)];
}

static void report(void) {
  qsort(latencies_us, latency_count, sizeof *latencies_us, by_size);
  printf("{\"deltas\":%lu,\"bytes\":%lu,\"lost\":%lu,\"doubled\":%lu,\"gaps\":%lu,\"streamMs\":%.3f,\"cpuMs\":%.3f,"
         "\"p50Us\":%u,\"p99Us\":%u}\n",
         round_now.deltas, round_now.bytes, round_now.lost, round_now.doubled, round_now.gaps,
         (double)(round_now.last_delta_ns - round_now.first_delta_ns) / 1e6, cpu_ms() - round_now.cpu_ms,
         latency_at(0.5), latency_at(0.99));
  fflush(stdout);
}

/* Those whose turn/completed the round waits for: all that read, or the ones that were held. */
static void begin_round(int of_held) {
  memset(&round_now, 0, sizeof round_now);
  latency_count = 0;
  round_now.cpu_ms = cpu_ms();
  for (int at = 0; at < client_count; at++) {
    clients[at].is_done = clients[at].is_held != of_held;
    if (!clients[at].is_done) round_now.waiting++;
  }
}

static void watch(int poll, int fd, void *what) {
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = what};
  epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
}

/* Returns 0 at the end of stdin. */
static int read_command(int poll) {
  static char line[65536];
  static size_t have;
  ssize_t received = read(STDIN_FILENO, line + have, sizeof line - have);
  if (received <= 0) return 0;
  have += (size_t)received;
  char *end = memchr(line, '\n', have);
  if (end == NULL) return 1;
  size_t length = (size_t)(end - line);
  if (STARTS(line, length, "release")) {
    begin_round(1);
    for (int at = 0; at < client_count; at++) {
      if (clients[at].is_held) watch(poll, clients[at].fd, &clients[at]);
      clients[at].is_held = 0;
    }
  } else {
    begin_round(0);
    send_frame(&clients[0], 1, line, length);
  }
  have = 0;
  return 1;
}

int main(int count, char **arguments) {
  if (count < 4) return 2;
  client_count = atoi(arguments[3]);
  int held = count > 4 ? atoi(arguments[4]) : 0, poll = epoll_create1(0);
  clients = calloc((size_t)client_count, sizeof *clients);
  latencies_us = malloc(MAX_LATENCIES * sizeof *latencies_us);
  for (int at = 0; at < client_count; at++) clients[at].is_held = at >= client_count - held;
  begin_round(0);
  for (int at = 0; at < client_count; at++) {
    clients[at].fd = connect_client(atoi(arguments[1]), arguments[2], at, clients[at].is_held);
    clients[at].carry = malloc(1);
    if (!clients[at].is_held) watch(poll, clients[at].fd, &clients[at]);
  }
  watch(poll, STDIN_FILENO, NULL);
  printf("{\"connected\":%d}\n", client_count);
  fflush(stdout);
  for (;;) {
    struct epoll_event events[256];
    int ready = epoll_wait(poll, events, 256, -1);
    for (int at = 0; at < ready; at++) {
      int was_waiting = round_now.waiting;
      if (events[at].data.ptr != NULL) read_client(events[at].data.ptr);
      else if (!read_command(poll)) return 0;
      if (was_waiting > 0 && round_now.waiting == 0) report();
      if (closed_count == client_count) return 0;
    }
  }
}
