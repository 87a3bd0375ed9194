/* Stand-ins for four of Intel's DCAP libraries, with Intel's interface, made from this one file:
 *
 *   cc -shared -fPIC -DPCE_LOGIC   -Wl,-soname,libsgx_pce_logic.so.1  -o libsgx_pce_logic.so.1
 *   cc -shared -fPIC -DQE3_LOGIC   -Wl,-soname,libsgx_qe3_logic.so    -o libsgx_qe3_logic.so
 *   cc -shared -fPIC -DPROVIDER    -Wl,-soname,libdcap_quoteprov.so.1 -o libdcap_quoteprov.so.1
 *   cc -shared -fPIC -DDCAP_QL     -Wl,-soname,libsgx_dcap_ql.so.1    -o libsgx_dcap_ql.so.1 and the first two
 *
 * The quoting library asks a unix socket (STUB_DCAP_SOCKET) what each call shall do and answer; behind it is a simulated
 * platform. What belongs to a process is here: crashes, hangs, prints, the key that a fresh process lacks, and the state
 * after an init that failed, in which Intel's library goes on with garbage. With STUB_DCAP_FILES, a directory with
 * target_info.bin, key_id.bin and quote.bin, it asks nobody, and a quote takes STUB_DCAP_MICROSECONDS: for measurements.
 * With STUB_DCAP_PROVIDER_FAILS the provider library loads, and its initialisation fails. */

#include "dcap_interface.h"

#ifdef PCE_LOGIC
uint32_t sgx_pce_sign_report(void) { return 0xF001; }
#endif

#ifdef PROVIDER
#include <stdio.h>
#include <stdlib.h>

enum { QE_ID_SIZE = 16, ENCRYPTED_PPID_SIZE = 384, RSA_3072 = 1 };

static uint8_t chain[600]; /* stands for leaf, intermediate and root; a quote's own comes from the test */
static sgx_ql_config_t config = {.version = 1, .cert_data_size = sizeof chain, .p_cert_data = chain};

__attribute__((constructor)) static void loaded(void) { fprintf(stderr, "stub: provider library loaded\n"); }
__attribute__((destructor)) static void unloaded(void) { fprintf(stderr, "stub: provider library unloaded\n"); }

uint32_t sgx_qpl_global_init(void) { return getenv("STUB_DCAP_PROVIDER_FAILS") ? 1 : SGX_QL_SUCCESS; }

uint32_t sgx_ql_get_quote_config(const sgx_ql_pck_cert_id_t *id, sgx_ql_config_t **found) {
    if (id->qe3_id_size != QE_ID_SIZE || id->encrypted_ppid_size != ENCRYPTED_PPID_SIZE || id->crypto_suite != RSA_3072)
        return SGX_QL_ERROR_INVALID_PARAMETER;
    *found = &config;
    return SGX_QL_SUCCESS;
}

uint32_t sgx_ql_free_quote_config(sgx_ql_config_t *given) {
    return given == &config ? SGX_QL_SUCCESS : SGX_QL_ERROR_INVALID_PARAMETER;
}
#endif

#ifdef QE3_LOGIC
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#pragma pack(push, 1)
typedef struct { uint8_t call, with_info, provider_library, reserved; uint32_t pid, size; report_t report;
                 sgx_ql_qe_report_info_t info; } asked_t;
typedef struct { uint32_t status, action, milliseconds, size; } told_t;
#pragma pack(pop)

enum { INIT = 1, SIZE = 2, QUOTE = 3 };
enum { ANSWER = 0, SEGFAULT = 1, ABORT = 2, HANG = 3, NOISE = 4, EXIT = 5 };
enum { SMALLEST_CHAIN = 500, LARGEST_CHAIN = 12294 }; /* bytes that Intel's library takes as a certificate chain */

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

/* As Intel's library: opened and closed for each call, and taken for missing if it does not initialise. */
static bool has_certificate_chain(void) {
    void *library = dlopen("libdcap_quoteprov.so.1", RTLD_LAZY);
    if (!library) return false;
    uint32_t (*initialise)(void) = dlsym(library, "sgx_qpl_global_init");
    uint32_t (*get)(const sgx_ql_pck_cert_id_t *, sgx_ql_config_t **) = dlsym(library, "sgx_ql_get_quote_config");
    uint32_t (*free_it)(sgx_ql_config_t *) = dlsym(library, "sgx_ql_free_quote_config");
    uint8_t qe_id[16] = {0}, cpu_svn[16] = {0}, encrypted_ppid[384] = {0};
    uint16_t pce_svn = 0;
    sgx_ql_pck_cert_id_t asked = {qe_id, sizeof qe_id, cpu_svn, &pce_svn, encrypted_ppid, sizeof encrypted_ppid, 1, 0};
    sgx_ql_config_t *config = NULL;
    bool found = !initialise() && !get(&asked, &config) && config->version == 1
                 && config->cert_data_size >= SMALLEST_CHAIN && config->cert_data_size <= LARGEST_CHAIN;
    if (config) free_it(config);
    dlclose(library);
    return found;
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
    asked->provider_library = has_certificate_chain();
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

static bool known(const sgx_ql_att_key_id_t *id) { return !id || (id->id == 0 && id->version == 0 && id->algorithm_id == 2); }

uint32_t sgx_ql_init_quote(sgx_ql_att_key_id_t *id, target_info_t *target, bool refresh, size_t *id_size, uint8_t *key_id) {
    static asked_t asked;
    uint8_t got[544];
    if (!known(id) || !id_size || refresh) return SGX_QL_ERROR_INVALID_PARAMETER;
    if (!key_id) { *id_size = 32; return 0; }
    if (*id_size != 32 || !target) return SGX_QL_ERROR_INVALID_PARAMETER;
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

uint32_t sgx_ql_get_quote_size(sgx_ql_att_key_id_t *id, uint32_t *quote_size) {
    static asked_t asked;
    static uint8_t whole[16384];
    if (!known(id) || !quote_size) return SGX_QL_ERROR_INVALID_PARAMETER;
    const char *files = getenv("STUB_DCAP_FILES");
    if (files) { *quote_size = from_file(files, "quote.bin", whole, sizeof whole); return 0; }
    if (!initialised) return SGX_QL_ATT_KEY_NOT_INITIALIZED;
    asked.call = SIZE;
    return ask(&asked, quote_size, sizeof *quote_size);
}

uint32_t sgx_ql_get_quote(report_t *report, sgx_ql_att_key_id_t *id, sgx_ql_qe_report_info_t *info, uint8_t *quote, uint32_t size) {
    static asked_t asked;
    static uint8_t whole[sizeof *info + 65536];
    if (!known(id) || !report || !quote) return SGX_QL_ERROR_INVALID_PARAMETER;
    const char *files = getenv("STUB_DCAP_FILES");
    if (files) {
        const char *microseconds = getenv("STUB_DCAP_MICROSECONDS");
        usleep(microseconds ? atoi(microseconds) : 0);
        from_file(files, "quote.bin", quote, size);
        return 0;
    }
    if (!initialised) return SGX_QL_ATT_KEY_NOT_INITIALIZED;
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

#ifdef DCAP_QL
#include <stdlib.h>
#include <sys/stat.h>

/* Of the quoting library, to which this one passes on. */
uint32_t sgx_ql_init_quote(sgx_ql_att_key_id_t *, target_info_t *, bool, size_t *, uint8_t *);
uint32_t sgx_ql_get_quote_size(sgx_ql_att_key_id_t *, uint32_t *);
uint32_t sgx_ql_get_quote(report_t *, sgx_ql_att_key_id_t *, sgx_ql_qe_report_info_t *, uint8_t *, uint32_t);

enum { PERSISTENT = 0, EPHEMERAL = 1, LAST_PATH_TYPE = 3 };

static bool by_aesm; /* Intel's then loads libsgx_quote_ex, which is not here */

__attribute__((constructor)) static void loaded(void) { by_aesm = getenv("SGX_AESM_ADDR") != NULL; }

uint32_t sgx_qe_get_target_info(target_info_t *target) {
    size_t size;
    uint8_t key_id[32];
    if (by_aesm) return SGX_QL_SERVICE_UNAVAILABLE;
    uint32_t status = sgx_ql_init_quote(NULL, NULL, false, &size, NULL);
    return status ? status : sgx_ql_init_quote(NULL, target, false, &size, key_id);
}

uint32_t sgx_qe_get_quote_size(uint32_t *size) {
    return by_aesm ? SGX_QL_SERVICE_UNAVAILABLE : sgx_ql_get_quote_size(NULL, size);
}

uint32_t sgx_qe_get_quote(report_t *report, uint32_t size, uint8_t *quote) {
    return by_aesm ? SGX_QL_SERVICE_UNAVAILABLE : sgx_ql_get_quote(report, NULL, NULL, quote, size);
}

uint32_t sgx_qe_set_enclave_load_policy(uint32_t policy) {
    if (by_aesm) return SGX_QL_UNSUPPORTED_MODE;
    return policy == PERSISTENT || policy == EPHEMERAL ? SGX_QL_SUCCESS : SGX_QL_UNSUPPORTED_LOADING_POLICY;
}

uint32_t sgx_qe_cleanup_by_policy(void) { return by_aesm ? SGX_QL_UNSUPPORTED_MODE : SGX_QL_SUCCESS; }

uint32_t sgx_ql_set_path(uint32_t type, const char *path) {
    struct stat found;
    if (by_aesm) return SGX_QL_UNSUPPORTED_MODE;
    bool usable = type <= LAST_PATH_TYPE && path && !stat(path, &found) && S_ISREG(found.st_mode);
    return usable ? SGX_QL_SUCCESS : SGX_QL_ERROR_INVALID_PARAMETER;
}

uint32_t sgx_ql_set_trace_callback(void (*callback)(uint32_t, const char *), uint32_t level) {
    (void)callback, (void)level;
    return SGX_QL_SUCCESS;
}
#endif
