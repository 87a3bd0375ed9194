/* The structures of Intel's quoting interface for x86-64, by Intel's names, each with its size and its offsets. */

#ifndef DCAP_INTERFACE_H
#define DCAP_INTERFACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HAS_SIZE(type, size) _Static_assert(sizeof(type) == (size), "size of " #type)
#define IS_AT(type, field, offset) _Static_assert(offsetof(type, field) == (offset), #type "." #field)

HAS_SIZE(size_t, 8);
HAS_SIZE(bool, 1);
HAS_SIZE(void *, 8);

#pragma pack(push, 1)

typedef struct {
    uint8_t mr_enclave[32], attributes[16], reserved1[2];
    uint16_t config_svn;
    uint32_t misc_select;
    uint8_t reserved2[8], config_id[64], reserved3[384];
} target_info_t;
HAS_SIZE(target_info_t, 512);
IS_AT(target_info_t, mr_enclave, 0);
IS_AT(target_info_t, attributes, 32);
IS_AT(target_info_t, config_svn, 50);
IS_AT(target_info_t, misc_select, 52);
IS_AT(target_info_t, config_id, 64);

typedef struct { uint8_t body[384], key_id[32], mac[16]; } report_t;
HAS_SIZE(report_t, 432);
IS_AT(report_t, key_id, 384);
IS_AT(report_t, mac, 416);

typedef struct { uint8_t nonce[16]; target_info_t app_enclave_target_info; report_t qe_report; } sgx_ql_qe_report_info_t;
HAS_SIZE(sgx_ql_qe_report_info_t, 960);
IS_AT(sgx_ql_qe_report_info_t, nonce, 0);
IS_AT(sgx_ql_qe_report_info_t, app_enclave_target_info, 16);
IS_AT(sgx_ql_qe_report_info_t, qe_report, 528);

typedef struct {
    uint16_t id, version, mrsigner_length;
    uint8_t mrsigner[48];
    uint32_t prod_id;
    uint8_t extended_prod_id[16], config_id[64], family_id[16];
    uint32_t algorithm_id;
} sgx_ql_att_key_id_t;
HAS_SIZE(sgx_ql_att_key_id_t, 158);
IS_AT(sgx_ql_att_key_id_t, id, 0);
IS_AT(sgx_ql_att_key_id_t, version, 2);
IS_AT(sgx_ql_att_key_id_t, mrsigner_length, 4);
IS_AT(sgx_ql_att_key_id_t, mrsigner, 6);
IS_AT(sgx_ql_att_key_id_t, prod_id, 54);
IS_AT(sgx_ql_att_key_id_t, extended_prod_id, 58);
IS_AT(sgx_ql_att_key_id_t, config_id, 74);
IS_AT(sgx_ql_att_key_id_t, family_id, 138);
IS_AT(sgx_ql_att_key_id_t, algorithm_id, 154);

typedef struct { sgx_ql_att_key_id_t base; uint8_t spid[16]; uint16_t att_key_type; uint8_t reserved[80]; } sgx_att_key_id_ext_t;
HAS_SIZE(sgx_att_key_id_ext_t, 256);
IS_AT(sgx_att_key_id_ext_t, spid, 158);
IS_AT(sgx_att_key_id_ext_t, att_key_type, 174);
IS_AT(sgx_att_key_id_ext_t, reserved, 176);

typedef struct {
    uint8_t *p_qe3_id;
    uint32_t qe3_id_size;
    uint8_t *p_platform_cpu_svn;
    uint16_t *p_platform_pce_isv_svn;
    uint8_t *p_encrypted_ppid;
    uint32_t encrypted_ppid_size;
    uint8_t crypto_suite;
    uint16_t pce_id;
} sgx_ql_pck_cert_id_t;
HAS_SIZE(sgx_ql_pck_cert_id_t, 43);
IS_AT(sgx_ql_pck_cert_id_t, p_qe3_id, 0);
IS_AT(sgx_ql_pck_cert_id_t, qe3_id_size, 8);
IS_AT(sgx_ql_pck_cert_id_t, p_platform_cpu_svn, 12);
IS_AT(sgx_ql_pck_cert_id_t, p_platform_pce_isv_svn, 20);
IS_AT(sgx_ql_pck_cert_id_t, p_encrypted_ppid, 28);
IS_AT(sgx_ql_pck_cert_id_t, encrypted_ppid_size, 36);
IS_AT(sgx_ql_pck_cert_id_t, crypto_suite, 40);
IS_AT(sgx_ql_pck_cert_id_t, pce_id, 41);

typedef struct {
    uint32_t version;
    uint8_t cert_cpu_svn[16];
    uint16_t cert_pce_isv_svn;
    uint32_t cert_data_size;
    uint8_t *p_cert_data;
} sgx_ql_config_t;
HAS_SIZE(sgx_ql_config_t, 34);
IS_AT(sgx_ql_config_t, version, 0);
IS_AT(sgx_ql_config_t, cert_cpu_svn, 4);
IS_AT(sgx_ql_config_t, cert_pce_isv_svn, 20);
IS_AT(sgx_ql_config_t, cert_data_size, 22);
IS_AT(sgx_ql_config_t, p_cert_data, 26);

#pragma pack(pop)

typedef struct {
    uint16_t major_version, minor_version;
    uint32_t tee_type;
    char *pck_crl_issuer_chain;
    uint32_t pck_crl_issuer_chain_size;
    char *root_ca_crl;
    uint32_t root_ca_crl_size;
    char *pck_crl;
    uint32_t pck_crl_size;
    char *tcb_info_issuer_chain;
    uint32_t tcb_info_issuer_chain_size;
    char *tcb_info;
    uint32_t tcb_info_size;
    char *qe_identity_issuer_chain;
    uint32_t qe_identity_issuer_chain_size;
    char *qe_identity;
    uint32_t qe_identity_size;
} sgx_ql_qve_collateral_t;
HAS_SIZE(sgx_ql_qve_collateral_t, 120);
IS_AT(sgx_ql_qve_collateral_t, major_version, 0);
IS_AT(sgx_ql_qve_collateral_t, minor_version, 2);
IS_AT(sgx_ql_qve_collateral_t, tee_type, 4);
IS_AT(sgx_ql_qve_collateral_t, pck_crl_issuer_chain, 8);
IS_AT(sgx_ql_qve_collateral_t, root_ca_crl, 24);
IS_AT(sgx_ql_qve_collateral_t, pck_crl, 40);
IS_AT(sgx_ql_qve_collateral_t, tcb_info_issuer_chain, 56);
IS_AT(sgx_ql_qve_collateral_t, tcb_info, 72);
IS_AT(sgx_ql_qve_collateral_t, qe_identity_issuer_chain, 88);
IS_AT(sgx_ql_qve_collateral_t, qe_identity, 104);

/* quote3_error_t, as far as the stand-ins answer it themselves. */
enum {
    SGX_QL_SUCCESS = 0,
    SGX_QL_ERROR_INVALID_PARAMETER = 0xE002,
    SGX_QL_UNSUPPORTED_LOADING_POLICY = 0xE00C,
    SGX_QL_ATT_KEY_NOT_INITIALIZED = 0xE00F,
    SGX_QL_UNSUPPORTED_MODE = 0xE03E,
    SGX_QL_SERVICE_UNAVAILABLE = 0xE040,
};

#endif
