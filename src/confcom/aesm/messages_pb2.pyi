from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Request(_message.Message):
    __slots__ = ("init_quote", "get_quote", "get_lic_token", "report_err", "get_white_list_size", "get_white_list", "sgx_get_extended_epid_group_id", "sgx_switch_extended_epid_group", "sgx_register", "init_quote_ex", "get_quote_size_ex", "get_quote_ex", "check_update_status", "select_att_key_id", "get_supported_att_key_id_num", "get_supported_att_key_ids")
    class InitQuoteExRequest(_message.Message):
        __slots__ = ("att_key_id", "b_pub_key_id", "buf_size", "timeout")
        ATT_KEY_ID_FIELD_NUMBER: _ClassVar[int]
        B_PUB_KEY_ID_FIELD_NUMBER: _ClassVar[int]
        BUF_SIZE_FIELD_NUMBER: _ClassVar[int]
        TIMEOUT_FIELD_NUMBER: _ClassVar[int]
        att_key_id: bytes
        b_pub_key_id: bool
        buf_size: int
        timeout: int
        def __init__(self, att_key_id: _Optional[bytes] = ..., b_pub_key_id: _Optional[bool] = ..., buf_size: _Optional[int] = ..., timeout: _Optional[int] = ...) -> None: ...
    class GetQuoteSizeExRequest(_message.Message):
        __slots__ = ("att_key_id", "timeout")
        ATT_KEY_ID_FIELD_NUMBER: _ClassVar[int]
        TIMEOUT_FIELD_NUMBER: _ClassVar[int]
        att_key_id: bytes
        timeout: int
        def __init__(self, att_key_id: _Optional[bytes] = ..., timeout: _Optional[int] = ...) -> None: ...
    class GetQuoteExRequest(_message.Message):
        __slots__ = ("report", "att_key_id", "qe_report_info", "buf_size", "timeout")
        REPORT_FIELD_NUMBER: _ClassVar[int]
        ATT_KEY_ID_FIELD_NUMBER: _ClassVar[int]
        QE_REPORT_INFO_FIELD_NUMBER: _ClassVar[int]
        BUF_SIZE_FIELD_NUMBER: _ClassVar[int]
        TIMEOUT_FIELD_NUMBER: _ClassVar[int]
        report: bytes
        att_key_id: bytes
        qe_report_info: bytes
        buf_size: int
        timeout: int
        def __init__(self, report: _Optional[bytes] = ..., att_key_id: _Optional[bytes] = ..., qe_report_info: _Optional[bytes] = ..., buf_size: _Optional[int] = ..., timeout: _Optional[int] = ...) -> None: ...
    class SelectAttKeyIdRequest(_message.Message):
        __slots__ = ("att_key_id_list", "timeout")
        ATT_KEY_ID_LIST_FIELD_NUMBER: _ClassVar[int]
        TIMEOUT_FIELD_NUMBER: _ClassVar[int]
        att_key_id_list: bytes
        timeout: int
        def __init__(self, att_key_id_list: _Optional[bytes] = ..., timeout: _Optional[int] = ...) -> None: ...
    class GetSupportedAttKeyIdNumRequest(_message.Message):
        __slots__ = ("timeout",)
        TIMEOUT_FIELD_NUMBER: _ClassVar[int]
        timeout: int
        def __init__(self, timeout: _Optional[int] = ...) -> None: ...
    class GetSupportedAttKeyIdsRequest(_message.Message):
        __slots__ = ("buf_size", "timeout")
        BUF_SIZE_FIELD_NUMBER: _ClassVar[int]
        TIMEOUT_FIELD_NUMBER: _ClassVar[int]
        buf_size: int
        timeout: int
        def __init__(self, buf_size: _Optional[int] = ..., timeout: _Optional[int] = ...) -> None: ...
    INIT_QUOTE_FIELD_NUMBER: _ClassVar[int]
    GET_QUOTE_FIELD_NUMBER: _ClassVar[int]
    GET_LIC_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REPORT_ERR_FIELD_NUMBER: _ClassVar[int]
    GET_WHITE_LIST_SIZE_FIELD_NUMBER: _ClassVar[int]
    GET_WHITE_LIST_FIELD_NUMBER: _ClassVar[int]
    SGX_GET_EXTENDED_EPID_GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    SGX_SWITCH_EXTENDED_EPID_GROUP_FIELD_NUMBER: _ClassVar[int]
    SGX_REGISTER_FIELD_NUMBER: _ClassVar[int]
    INIT_QUOTE_EX_FIELD_NUMBER: _ClassVar[int]
    GET_QUOTE_SIZE_EX_FIELD_NUMBER: _ClassVar[int]
    GET_QUOTE_EX_FIELD_NUMBER: _ClassVar[int]
    CHECK_UPDATE_STATUS_FIELD_NUMBER: _ClassVar[int]
    SELECT_ATT_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    GET_SUPPORTED_ATT_KEY_ID_NUM_FIELD_NUMBER: _ClassVar[int]
    GET_SUPPORTED_ATT_KEY_IDS_FIELD_NUMBER: _ClassVar[int]
    init_quote: bytes
    get_quote: bytes
    get_lic_token: bytes
    report_err: bytes
    get_white_list_size: bytes
    get_white_list: bytes
    sgx_get_extended_epid_group_id: bytes
    sgx_switch_extended_epid_group: bytes
    sgx_register: bytes
    init_quote_ex: Request.InitQuoteExRequest
    get_quote_size_ex: Request.GetQuoteSizeExRequest
    get_quote_ex: Request.GetQuoteExRequest
    check_update_status: bytes
    select_att_key_id: Request.SelectAttKeyIdRequest
    get_supported_att_key_id_num: Request.GetSupportedAttKeyIdNumRequest
    get_supported_att_key_ids: Request.GetSupportedAttKeyIdsRequest
    def __init__(self, init_quote: _Optional[bytes] = ..., get_quote: _Optional[bytes] = ..., get_lic_token: _Optional[bytes] = ..., report_err: _Optional[bytes] = ..., get_white_list_size: _Optional[bytes] = ..., get_white_list: _Optional[bytes] = ..., sgx_get_extended_epid_group_id: _Optional[bytes] = ..., sgx_switch_extended_epid_group: _Optional[bytes] = ..., sgx_register: _Optional[bytes] = ..., init_quote_ex: _Optional[_Union[Request.InitQuoteExRequest, _Mapping]] = ..., get_quote_size_ex: _Optional[_Union[Request.GetQuoteSizeExRequest, _Mapping]] = ..., get_quote_ex: _Optional[_Union[Request.GetQuoteExRequest, _Mapping]] = ..., check_update_status: _Optional[bytes] = ..., select_att_key_id: _Optional[_Union[Request.SelectAttKeyIdRequest, _Mapping]] = ..., get_supported_att_key_id_num: _Optional[_Union[Request.GetSupportedAttKeyIdNumRequest, _Mapping]] = ..., get_supported_att_key_ids: _Optional[_Union[Request.GetSupportedAttKeyIdsRequest, _Mapping]] = ...) -> None: ...

class Response(_message.Message):
    __slots__ = ("init_quote", "get_quote", "get_lic_token", "report_err", "get_white_list_size", "get_white_list", "sgx_get_extended_epid_group_id", "sgx_switch_extended_epid_group", "sgx_register", "init_quote_ex", "get_quote_size_ex", "get_quote_ex", "check_update_status", "select_att_key_id", "get_supported_att_key_id_num", "get_supported_att_key_ids")
    class LegacyResponse(_message.Message):
        __slots__ = ("error_code",)
        ERROR_CODE_FIELD_NUMBER: _ClassVar[int]
        error_code: int
        def __init__(self, error_code: _Optional[int] = ...) -> None: ...
    class LegacyNumberResponse(_message.Message):
        __slots__ = ("error_code", "number")
        ERROR_CODE_FIELD_NUMBER: _ClassVar[int]
        NUMBER_FIELD_NUMBER: _ClassVar[int]
        error_code: int
        number: int
        def __init__(self, error_code: _Optional[int] = ..., number: _Optional[int] = ...) -> None: ...
    class CheckUpdateStatusResponse(_message.Message):
        __slots__ = ("error_code", "status")
        ERROR_CODE_FIELD_NUMBER: _ClassVar[int]
        STATUS_FIELD_NUMBER: _ClassVar[int]
        error_code: int
        status: int
        def __init__(self, error_code: _Optional[int] = ..., status: _Optional[int] = ...) -> None: ...
    class InitQuoteExResponse(_message.Message):
        __slots__ = ("error_code", "target_info", "pub_key_id_size", "pub_key_id")
        ERROR_CODE_FIELD_NUMBER: _ClassVar[int]
        TARGET_INFO_FIELD_NUMBER: _ClassVar[int]
        PUB_KEY_ID_SIZE_FIELD_NUMBER: _ClassVar[int]
        PUB_KEY_ID_FIELD_NUMBER: _ClassVar[int]
        error_code: int
        target_info: bytes
        pub_key_id_size: int
        pub_key_id: bytes
        def __init__(self, error_code: _Optional[int] = ..., target_info: _Optional[bytes] = ..., pub_key_id_size: _Optional[int] = ..., pub_key_id: _Optional[bytes] = ...) -> None: ...
    class GetQuoteSizeExResponse(_message.Message):
        __slots__ = ("error_code", "quote_size")
        ERROR_CODE_FIELD_NUMBER: _ClassVar[int]
        QUOTE_SIZE_FIELD_NUMBER: _ClassVar[int]
        error_code: int
        quote_size: int
        def __init__(self, error_code: _Optional[int] = ..., quote_size: _Optional[int] = ...) -> None: ...
    class GetQuoteExResponse(_message.Message):
        __slots__ = ("error_code", "quote", "qe_report_info")
        ERROR_CODE_FIELD_NUMBER: _ClassVar[int]
        QUOTE_FIELD_NUMBER: _ClassVar[int]
        QE_REPORT_INFO_FIELD_NUMBER: _ClassVar[int]
        error_code: int
        quote: bytes
        qe_report_info: bytes
        def __init__(self, error_code: _Optional[int] = ..., quote: _Optional[bytes] = ..., qe_report_info: _Optional[bytes] = ...) -> None: ...
    class SelectAttKeyIdResponse(_message.Message):
        __slots__ = ("error_code", "selected_att_key_id")
        ERROR_CODE_FIELD_NUMBER: _ClassVar[int]
        SELECTED_ATT_KEY_ID_FIELD_NUMBER: _ClassVar[int]
        error_code: int
        selected_att_key_id: bytes
        def __init__(self, error_code: _Optional[int] = ..., selected_att_key_id: _Optional[bytes] = ...) -> None: ...
    class GetSupportedAttKeyIdNumResponse(_message.Message):
        __slots__ = ("error_code", "att_key_id_num")
        ERROR_CODE_FIELD_NUMBER: _ClassVar[int]
        ATT_KEY_ID_NUM_FIELD_NUMBER: _ClassVar[int]
        error_code: int
        att_key_id_num: int
        def __init__(self, error_code: _Optional[int] = ..., att_key_id_num: _Optional[int] = ...) -> None: ...
    class GetSupportedAttKeyIdsResponse(_message.Message):
        __slots__ = ("error_code", "att_key_ids")
        ERROR_CODE_FIELD_NUMBER: _ClassVar[int]
        ATT_KEY_IDS_FIELD_NUMBER: _ClassVar[int]
        error_code: int
        att_key_ids: bytes
        def __init__(self, error_code: _Optional[int] = ..., att_key_ids: _Optional[bytes] = ...) -> None: ...
    INIT_QUOTE_FIELD_NUMBER: _ClassVar[int]
    GET_QUOTE_FIELD_NUMBER: _ClassVar[int]
    GET_LIC_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REPORT_ERR_FIELD_NUMBER: _ClassVar[int]
    GET_WHITE_LIST_SIZE_FIELD_NUMBER: _ClassVar[int]
    GET_WHITE_LIST_FIELD_NUMBER: _ClassVar[int]
    SGX_GET_EXTENDED_EPID_GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    SGX_SWITCH_EXTENDED_EPID_GROUP_FIELD_NUMBER: _ClassVar[int]
    SGX_REGISTER_FIELD_NUMBER: _ClassVar[int]
    INIT_QUOTE_EX_FIELD_NUMBER: _ClassVar[int]
    GET_QUOTE_SIZE_EX_FIELD_NUMBER: _ClassVar[int]
    GET_QUOTE_EX_FIELD_NUMBER: _ClassVar[int]
    CHECK_UPDATE_STATUS_FIELD_NUMBER: _ClassVar[int]
    SELECT_ATT_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    GET_SUPPORTED_ATT_KEY_ID_NUM_FIELD_NUMBER: _ClassVar[int]
    GET_SUPPORTED_ATT_KEY_IDS_FIELD_NUMBER: _ClassVar[int]
    init_quote: Response.LegacyResponse
    get_quote: Response.LegacyResponse
    get_lic_token: Response.LegacyResponse
    report_err: Response.LegacyResponse
    get_white_list_size: Response.LegacyNumberResponse
    get_white_list: Response.LegacyResponse
    sgx_get_extended_epid_group_id: Response.LegacyNumberResponse
    sgx_switch_extended_epid_group: Response.LegacyResponse
    sgx_register: Response.LegacyResponse
    init_quote_ex: Response.InitQuoteExResponse
    get_quote_size_ex: Response.GetQuoteSizeExResponse
    get_quote_ex: Response.GetQuoteExResponse
    check_update_status: Response.CheckUpdateStatusResponse
    select_att_key_id: Response.SelectAttKeyIdResponse
    get_supported_att_key_id_num: Response.GetSupportedAttKeyIdNumResponse
    get_supported_att_key_ids: Response.GetSupportedAttKeyIdsResponse
    def __init__(self, init_quote: _Optional[_Union[Response.LegacyResponse, _Mapping]] = ..., get_quote: _Optional[_Union[Response.LegacyResponse, _Mapping]] = ..., get_lic_token: _Optional[_Union[Response.LegacyResponse, _Mapping]] = ..., report_err: _Optional[_Union[Response.LegacyResponse, _Mapping]] = ..., get_white_list_size: _Optional[_Union[Response.LegacyNumberResponse, _Mapping]] = ..., get_white_list: _Optional[_Union[Response.LegacyResponse, _Mapping]] = ..., sgx_get_extended_epid_group_id: _Optional[_Union[Response.LegacyNumberResponse, _Mapping]] = ..., sgx_switch_extended_epid_group: _Optional[_Union[Response.LegacyResponse, _Mapping]] = ..., sgx_register: _Optional[_Union[Response.LegacyResponse, _Mapping]] = ..., init_quote_ex: _Optional[_Union[Response.InitQuoteExResponse, _Mapping]] = ..., get_quote_size_ex: _Optional[_Union[Response.GetQuoteSizeExResponse, _Mapping]] = ..., get_quote_ex: _Optional[_Union[Response.GetQuoteExResponse, _Mapping]] = ..., check_update_status: _Optional[_Union[Response.CheckUpdateStatusResponse, _Mapping]] = ..., select_att_key_id: _Optional[_Union[Response.SelectAttKeyIdResponse, _Mapping]] = ..., get_supported_att_key_id_num: _Optional[_Union[Response.GetSupportedAttKeyIdNumResponse, _Mapping]] = ..., get_supported_att_key_ids: _Optional[_Union[Response.GetSupportedAttKeyIdsResponse, _Mapping]] = ...) -> None: ...
