/* Stand-ins for three of Intel's DCAP libraries, with Intel's interface, made from this one file:
 *
 *   cc -shared -fPIC -DPCE_LOGIC   -Wl,-soname,libsgx_pce_logic.so.1 -o libsgx_pce_logic.so.1
 *   cc -shared -fPIC -DQE3_LOGIC   -Wl,-soname,libsgx_qe3_logic.so   -o libsgx_qe3_logic.so
 *   cc -shared -fPIC -DPROVIDER    -Wl,-soname,libdcap_quoteprov.so.1 -o libdcap_quoteprov.so.1
 *
 * The quoting library asks a unix socket (STUB_DCAP_SOCKET) what each call shall do and answer; behind it is a simulated
 * platform. What belongs to a process is here: crashes, hangs, prints, the key that a fresh process lacks, and the state
 * after an init that failed, in which Intel's library goes on with garbage. With STUB_DCAP_FILES, a directory with
 * target_info.bin, key_id.bin and quote.bin, it asks nobody: for measurements. */

#include <stdint.h>

#ifdef PCE_LOGIC
uint32_t sgx_pce_sign_report(void) { return 0xF001; }
#endif

#ifdef PROVIDER
#include <stdio.h>
__attribute__((constructor)) static void loaded(void) { fprintf(stderr, "stub: provider library loaded\n"); }
__attribute__((destructor)) static void unloaded(void) { fprintf(stderr, "stub: provider library unloaded\n"); }
#endif

#ifdef QE3_LOGIC
#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#pragma pack(push, 1)
typedef struct { uint8_t mrenclave[32], attributes[16], reserved1[2]; uint16_t config_svn; uint32_t misc_select;
                 uint8_t reserved2[8], config_id[64], reserved3[384]; } target_info_t;
typedef struct { uint8_t body[384], key_id[32], mac[16]; } report_t;
typedef struct { uint8_t nonce[16]; target_info_t target; report_t report; } qe_report_info_t;
typedef struct { uint16_t id, version, mrsigner_length; uint8_t mrsigner[48]; uint32_t prod_id;
                 uint8_t ext_prod_id[16], config_id[64], family_id[16]; uint32_t algorithm; } att_key_id_t;
typedef struct { att_key_id_t base; uint8_t spid[16]; uint16_t type; uint8_t reserved[80]; } att_key_id_ext_t;
typedef struct { uint8_t call, with_info, provider_library, reserved; uint32_t pid, size; report_t report;
                 qe_report_info_t info; } asked_t;
typedef struct { uint32_t status, action, milliseconds, size; } told_t;
#pragma pack(pop)

_Static_assert(sizeof(target_info_t) == 512 && offsetof(target_info_t, config_svn) == 50
               && offsetof(target_info_t, misc_select) == 52 && offsetof(target_info_t, config_id) == 64, "target_info");
_Static_assert(sizeof(report_t) == 432 && offsetof(report_t, mac) == 416, "report");
_Static_assert(sizeof(qe_report_info_t) == 960 && offsetof(qe_report_info_t, report) == 528, "qe_report_info");
_Static_assert(sizeof(att_key_id_t) == 158 && offsetof(att_key_id_t, prod_id) == 54
               && offsetof(att_key_id_t, algorithm) == 154, "att_key_id");
_Static_assert(sizeof(att_key_id_ext_t) == 256 && offsetof(att_key_id_ext_t, type) == 174, "att_key_id_ext");
_Static_assert(sizeof(size_t) == 8 && sizeof(bool) == 1, "x86-64");

enum { INIT = 1, SIZE = 2, QUOTE = 3 };
enum { ANSWER = 0, SEGFAULT = 1, ABORT = 2, HANG = 3, NOISE = 4, EXIT = 5 };
enum { INVALID_PARAMETER = 0xE002, NOT_INITIALIZED = 0xE00F };

uint32_t sgx_pce_sign_report(void); /* of libsgx_pce_logic.so.1, which must be loaded before, with RTLD_GLOBAL */
void *const needed = sgx_pce_sign_report;

static bool initialised, poisoned;

static void all(ssize_t (*move)(int, void *, size_t), int fd, void *data, size_t size) {
    for (char *at = data; size;) {
        ssize_t done = move(fd, at, size);
        if (done <= 0) { fprintf(stderr, "stub: the test has gone\n"); _exit(99); }
        at += done, size -= done;
    }
}

static ssize_t put(int fd, void *data, size_t size) { return write(fd, data, size); }

static uint32_t from_file(const char *directory, const char *name, void *data, size_t size) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "rb");
    if (!file) return 0;
    size_t got = fread(data, 1, size, file);
    fclose(file);
    return got;
}

static bool has_provider_library(void) { /* as Intel's library: opened and closed for each call */
    void *handle = dlopen("libdcap_quoteprov.so.1", RTLD_LAZY);
    if (handle) dlclose(handle);
    return handle != NULL;
}

static void act(uint32_t action) {
    switch (action) {
    case SEGFAULT: printf("stub: crashes now\n"); *(volatile int *)8 = 1; break;
    case ABORT: abort();
    case EXIT: exit(7);
    case HANG: for (;;) pause();
    case NOISE:
        for (int i = 0; i < 20000; i++) printf("%d\n", i);
        for (int i = 0; i < 100000; i++) fputc('x', stderr);
        fprintf(stderr, "\nError returned from the p_sgx_get_quote_config API. 0xe019\n\x1b[31m \xff\n");
        printf("no line feed");
        fflush(stdout);
    }
}

/* Ask the test; the answer's bytes go to `out`, at most `size`. */
static uint32_t ask(asked_t *asked, void *out, size_t size) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = getenv("STUB_DCAP_SOCKET");
    told_t told;
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path ? path : "");
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) { perror("stub: connect"); _exit(98); }
    asked->provider_library = has_provider_library();
    asked->pid = getpid();
    all(put, fd, asked, sizeof *asked);
    all(read, fd, &told, sizeof told);
    if (told.size > size) told.size = size;
    all(read, fd, out, told.size);
    close(fd);
    usleep(1000 * told.milliseconds);
    act(told.action);
    return told.status;
}

static bool known(const att_key_id_t *id) { return !id || (id->id == 0 && id->version == 0 && id->algorithm == 2); }

uint32_t sgx_ql_init_quote(att_key_id_t *id, target_info_t *target, bool refresh, size_t *id_size, uint8_t *key_id) {
    static asked_t asked;
    uint8_t got[544];
    if (!known(id) || !id_size || refresh) return INVALID_PARAMETER;
    if (!key_id) { *id_size = 32; return 0; }
    if (*id_size != 32 || !target) return INVALID_PARAMETER;
    const char *files = getenv("STUB_DCAP_FILES");
    if (files) {
        from_file(files, "target_info.bin", target, 512);
        from_file(files, "key_id.bin", key_id, 32);
        return 0;
    }
    asked.call = INIT;
    uint32_t status = ask(&asked, got, sizeof got);
    if (poisoned) { memset(target, 0xDD, 512); memset(key_id, 0xDD, 32); initialised = true; return 0; }
    initialised = !status;
    poisoned = status;
    if (!status) { memcpy(target, got, 512); memcpy(key_id, got + 512, 32); }
    return status;
}

uint32_t sgx_ql_get_quote_size(att_key_id_t *id, uint32_t *quote_size) {
    static asked_t asked;
    static uint8_t whole[16384];
    if (!known(id) || !quote_size) return INVALID_PARAMETER;
    const char *files = getenv("STUB_DCAP_FILES");
    if (files) { *quote_size = from_file(files, "quote.bin", whole, sizeof whole); return 0; }
    if (!initialised) return NOT_INITIALIZED;
    asked.call = SIZE;
    return ask(&asked, quote_size, sizeof *quote_size);
}

uint32_t sgx_ql_get_quote(report_t *report, att_key_id_t *id, qe_report_info_t *info, uint8_t *quote, uint32_t size) {
    static asked_t asked;
    static uint8_t whole[sizeof *info + 65536];
    if (!known(id) || !report || !quote) return INVALID_PARAMETER;
    const char *files = getenv("STUB_DCAP_FILES");
    if (files) { from_file(files, "quote.bin", quote, size); return 0; }
    if (!initialised) return NOT_INITIALIZED;
    asked = (asked_t){.call = QUOTE, .with_info = info != NULL, .size = size, .report = *report};
    if (info) asked.info = *info;
    uint32_t status = ask(&asked, whole, sizeof whole);
    if (!status) {
        if (info) memcpy(info, whole, sizeof *info);
        memcpy(quote, whole + sizeof *info, size);
    }
    return status;
}
#endif
