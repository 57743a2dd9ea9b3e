/*
 * What relaying costs at the least: reads JSONL on stdin, splices each line into {"type":"event","seq":N,"payload":…},
 * frames it as a WebSocket text message and writes it to CLIENTS clients, one buffer for each read, blocking.
 *
 *   codex-stand-in lines N | relay PORT CLIENTS      prints {"lines":…,"cpuMs":…} at the end of its input
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_CLIENTS 4096
#define READ_BYTES 65536
#define MAX_LINE_BYTES 65536

static char input[READ_BYTES + MAX_LINE_BYTES], output[10 * (READ_BYTES + MAX_LINE_BYTES)];

static double cpu_ms(void) {
  struct rusage used;
  getrusage(RUSAGE_SELF, &used);
  return (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e3 + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e3;
}

static int listen_on(int port) {
  int server = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (bind(server, (struct sockaddr *)&address, sizeof address) != 0 || listen(server, 1024) != 0) {
    perror("relay");
    exit(1);
  }
  return server;
}

/* A client after its upgrade; -1 for somebody who only looked whether the port is open. */
static int accept_client(int server) {
  static const char *SWITCHING =
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
      "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
  int client = accept(server, NULL, NULL), on = 1;
  setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  char request[4096];
  size_t have = 0;
  while (have < sizeof request && read(client, request + have, 1) == 1) {
    have++;
    if (have >= 4 && memcmp(request + have - 4, "\r\n\r\n", 4) == 0) {
      return write(client, SWITCHING, strlen(SWITCHING)) > 0 ? client : -1;
    }
  }
  close(client);
  return -1;
}

/* Writes one line's frame and returns its length. */
static size_t encode(char *frame, const char *line, size_t length, long long seq) {
  char open[64];
  size_t open_length = (size_t)sprintf(open, "{\"type\":\"event\",\"seq\":%lld,\"payload\":", seq);
  size_t total = open_length + length + 1, at = 0;
  frame[at++] = (char)0x81;
  if (total < 126) frame[at++] = (char)total;
  else if (total < 65536) {
    frame[at++] = 126;
    frame[at++] = (char)(total >> 8);
    frame[at++] = (char)total;
  } else {
    frame[at++] = 127;
    for (int shift = 56; shift >= 0; shift -= 8) frame[at++] = (char)(total >> shift);
  }
  memcpy(frame + at, open, open_length);
  memcpy(frame + at + open_length, line, length);
  frame[at + total - 1] = '}';
  return at + total;
}

static void send_all(int client, const char *bytes, size_t length) {
  while (length > 0) {
    ssize_t written = write(client, bytes, length);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) exit(1);
    bytes += written;
    length -= (size_t)written;
  }
}

int main(int count, char **arguments) {
  if (count < 3 || atoi(arguments[2]) > MAX_CLIENTS) return 2;
  /* It would wait for its clients for ever when the benchmark ends before they come. */
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  int wanted = atoi(arguments[2]), clients[MAX_CLIENTS], server = listen_on(atoi(arguments[1]));
  for (int at = 0; at < wanted;) {
    clients[at] = accept_client(server);
    if (clients[at] >= 0) at++;
  }
  double before_ms = cpu_ms();
  long long seq = 0;
  size_t have = 0;
  ssize_t received;
  while ((received = read(STDIN_FILENO, input + have, READ_BYTES)) > 0) {
    have += (size_t)received;
    char *line = input, *end;
    size_t filled = 0;
    while ((end = memchr(line, '\n', (size_t)(input + have - line))) != NULL) {
      filled += encode(output + filled, line, (size_t)(end - line), ++seq);
      line = end + 1;
    }
    have = (size_t)(input + have - line);
    memmove(input, line, have);
    if (have > MAX_LINE_BYTES) return 3;
    for (int at = 0; at < wanted; at++) send_all(clients[at], output, filled);
  }
  printf("{\"lines\":%lld,\"cpuMs\":%.3f}\n", seq, cpu_ms() - before_ms);
  return 0;
}
