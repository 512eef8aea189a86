// What writing a hundred machines' files costs here in the plainest way: as many processes, each holding a
// connection open, that write what comes to a journal, sync it, make the files beside and rename them.
//   bare FOLDER PROCESSES FILES BYTES ROUNDS: a line a round, ms from the first byte sent to the last rename
#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void all(int fd, char *bytes, size_t length, ssize_t (*step)(int, char *, size_t)) {
  for (size_t done = 0; done < length;) {
    ssize_t more = step(fd, bytes + done, length - done);
    if (more <= 0) exit(0);
    done += more;
  }
}
static ssize_t in(int fd, char *bytes, size_t length) { return read(fd, bytes, length); }
static ssize_t out(int fd, char *bytes, size_t length) { return write(fd, bytes, length); }
static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static void machine(int line, const char *folder, int files, char *bytes, size_t length) {
  if (mkdir(folder, 0755) || chdir(folder)) err(1, "%s", folder);
  int journal = open("journal", O_CREAT | O_WRONLY, 0644);
  for (;;) {
    all(line, bytes, length, in);
    if (pwrite(journal, bytes, length, 0) < 0 || fdatasync(journal)) err(1, "journal");
    char name[32], to[32];
    for (int file = 0; file < files; file++) {
      snprintf(name, sizeof name, ".%d", file);
      int fd = open(name, O_CREAT | O_WRONLY | O_TRUNC, 0644);
      if (fd < 0) err(1, "%s", name);
      all(fd, bytes + length / files * file, length / files, out);
      close(fd);
    }
    for (int file = 0; file < files; file++) {
      snprintf(name, sizeof name, ".%d", file);
      snprintf(to, sizeof to, "%d", file);
      if (rename(name, to)) err(1, "rename");
    }
    all(line, "", 1, out);
  }
}

int main(int argc, char **argv) {
  if (argc != 6) errx(2, "FOLDER PROCESSES FILES BYTES ROUNDS");
  int processes = atoi(argv[2]), files = atoi(argv[3]), rounds = atoi(argv[5]);
  size_t length = atoi(argv[4]);
  char *bytes = calloc(1, length);
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof at;
  int listener = socket(AF_INET, SOCK_STREAM, 0), lines[processes];
  if (bind(listener, (void *)&at, size) || listen(listener, 1) || getsockname(listener, (void *)&at, &size)) err(1, "listen");
  for (int one = 0; one < processes; one++) {
    if (!fork()) {
      char folder[4096];
      int line = socket(AF_INET, SOCK_STREAM, 0);
      if (connect(line, (void *)&at, size)) err(1, "connect");
      snprintf(folder, sizeof folder, "%s/%d", argv[1], one);
      machine(line, folder, files, bytes, length);
    }
    lines[one] = accept(listener, 0, 0);
  }
  for (int round = 0; round < rounds; round++) {
    double began = now();
    for (size_t at = 0; at < length; at++) bytes[at] = 'a' + (at + round) % 26;
    for (int one = 0; one < processes; one++) all(lines[one], bytes, length, out);
    for (int one = 0; one < processes; one++) all(lines[one], bytes, 1, in);
    printf("%.1f\n", now() - began);
    fflush(stdout);
    sleep(5); // As long as the followers beside it are left alone.
  }
  for (int one = 0; one < processes; one++) close(lines[one]);
  while (wait(0) > 0) {}
}
