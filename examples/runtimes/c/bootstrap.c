/* A custom runtime in C on plain sockets: no library but libc, one kept-alive connection.
 *
 * It reads the two framings that a Runtime API uses, Content-Length and chunked, and gives up on
 * anything else: a runtime that guesses where an event ends is worse than one that exits.
 */
#include <ctype.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LINE_BYTES = 64 * 1024, EVENT_BYTES = 32 * 1024 * 1024 };

static FILE *from_api, *to_api;
static const char *endpoint;

static void die(const char *why) {
    fprintf(stderr, "runtime: %s\n", why);
    exit(1);
}

static void connect_to_api(void) {
    endpoint = getenv("AWS_LAMBDA_RUNTIME_API");
    if (!endpoint) die("AWS_LAMBDA_RUNTIME_API is not set");
    char host[256];
    const char *colon = strrchr(endpoint, ':');
    if (!colon || (size_t)(colon - endpoint) >= sizeof host)
        die("AWS_LAMBDA_RUNTIME_API is not host:port");
    memcpy(host, endpoint, (size_t)(colon - endpoint));
    host[colon - endpoint] = 0;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    if (getaddrinfo(host, colon + 1, &hints, &found)) die("the host has no address");
    int fd = socket(found->ai_family, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, found->ai_addr, found->ai_addrlen)) die("cannot connect");
    freeaddrinfo(found);
    from_api = fdopen(fd, "r");
    to_api = fdopen(dup(fd), "w");
    if (!from_api || !to_api) die("out of memory");
}

/* Reads one line without its line end. */
static char *read_line(void) {
    static char line[LINE_BYTES];
    if (!fgets(line, sizeof line, from_api)) die("the Runtime API closed the connection");
    size_t length = strlen(line);
    if (length < 2 || strcmp(line + length - 2, "\r\n")) die("a line is too long or cut");
    line[length - 2] = 0;
    return line;
}

static char *read_into(char *body, size_t have, size_t more) {
    if (more > EVENT_BYTES - have) die("the event is too large");
    body = realloc(body, have + more + 1);
    if (!body) die("out of memory");
    if (fread(body + have, 1, more, from_api) != more) die("the event is cut");
    body[have + more] = 0;
    return body;
}

/* Reads one response; the caller frees the body. `id` may be null. */
static int read_response(char **body, size_t *length, char *id, size_t id_bytes) {
    int status = 0, chunked = 0;
    long long announced = -1;
    if (sscanf(read_line(), "HTTP/1.1 %3d", &status) != 1) die("not HTTP/1.1");
    for (char *line; *(line = read_line());) {
        char *value = strchr(line, ':');
        if (!value) die("a header without a colon");
        *value++ = 0;
        while (*value == ' ' || *value == '\t') value++;
        if (!strcasecmp(line, "Content-Length"))
            announced = isdigit((unsigned char)*value) ? atoll(value) : -1;
        else if (!strcasecmp(line, "Transfer-Encoding"))
            chunked = !strcasecmp(value, "chunked");
        else if (id && !strcasecmp(line, "Lambda-Runtime-Aws-Request-Id"))
            snprintf(id, id_bytes, "%s", value);
    }
    *length = 0;
    *body = NULL;
    if (chunked) {
        for (size_t size; (size = strtoull(read_line(), NULL, 16)) > 0; *length += size) {
            *body = read_into(*body, *length, size);
            if (*read_line()) die("a chunk is too long");
        }
        while (*read_line()) {
        }
    }
    if (!chunked && announced < 0) die("an answer without a length");
    if (!chunked) *length = (size_t)announced;
    *body = read_into(*body, chunked ? *length : 0, chunked ? 0 : *length);
    return status;
}

static void post(const char *path, const char *fields, const char *body, size_t length) {
    fprintf(to_api,
            "POST /2018-06-01/runtime/%s HTTP/1.1\r\nHost: %s\r\n%sContent-Length: %zu\r\n\r\n",
            path, endpoint, fields, length);
    fwrite(body, 1, length, to_api);
    fflush(to_api);
    char *answer;
    size_t answer_length;
    int status = read_response(&answer, &answer_length, NULL, 0);
    if (status >= 300) fprintf(stderr, "runtime: status %d: %s\n", status, answer);
    free(answer);
    if (status >= 500) die("the platform has failed");
}

int main(void) {
    connect_to_api();
    for (;;) {
        char id[128] = "", path[256], *event;
        size_t length;
        fprintf(to_api, "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: %s\r\n\r\n",
                endpoint);
        fflush(to_api);
        if (read_response(&event, &length, id, sizeof id) != 200 || !*id) die("no event");

        /* The function: a JSON string becomes {"hello":<string>}, anything else is an error. */
        if (length >= 2 && event[0] == '"' && event[length - 1] == '"') {
            size_t answer_length = length + strlen("{\"hello\":}");
            char *answer = malloc(answer_length + 1);
            if (!answer) die("out of memory");
            memcpy(answer, "{\"hello\":", 9);
            memcpy(answer + 9, event, length);
            memcpy(answer + 9 + length, "}", 2);
            snprintf(path, sizeof path, "invocation/%s/response", id);
            post(path, "Content-Type: application/json\r\n", answer, answer_length);
            free(answer);
        } else {
            const char *document =
                "{\"errorMessage\":\"the event is not a string\","
                "\"errorType\":\"NotAString\",\"stackTrace\":[]}";
            snprintf(path, sizeof path, "invocation/%s/error", id);
            post(path,
                 "Content-Type: application/json\r\n"
                 "Lambda-Runtime-Function-Error-Type: Function.NotAString\r\n",
                 document, strlen(document));
        }
        free(event);
    }
}
