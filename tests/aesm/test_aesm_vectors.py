import pytest

from confcom.aesm.message_codec import decode_response
from confcom.aesm.messages import AesmQuote, QuotingTarget, Request
from confcom.aesm.request_checks import NeedIdentity, NeedQuote, NeedQuoteSize, plan
from confcom.aesm.session import ClientSession, ServerSession
from confcom.sgx.report import QeReportInfo, TargetInfo

CALLS = ["num", "ids", "sel", "init1", "init2", "size", "quote", "quote0"]


def received(data):
    session = ServerSession()
    event = session.receive(data)
    assert isinstance(event, Request)
    return session, event


@pytest.mark.parametrize("call", [*CALLS, "sellist"])
def test_our_client_writes_what_intels_writes(vector, call):
    recorded = vector(f"intel229_{call}")
    _, request = received(recorded)
    assert ClientSession(request).data_to_send == recorded


@pytest.mark.parametrize("call", CALLS)
def test_our_server_answers_what_intels_answers(vector, call):
    session, request = received(vector(f"intel229_{call}"))
    recorded = vector(f"resp_intel229_{call}")
    facts = decode_response(recorded[4:], request.kind)
    match plan(request):
        case NeedIdentity() as need:
            response = need.answer(QuotingTarget(TargetInfo.parse(facts.target_info), facts.pub_key_id))
        case NeedQuoteSize() as need:
            response = need.answer(facts.quote_size)
        case NeedQuote() as need:
            info = None if facts.qe_report_info is None else QeReportInfo.parse(facts.qe_report_info)
            response = need.answer(AesmQuote(facts.quote, info))
        case response:
            pass
    assert session.respond(response) == recorded


def test_a_list_that_names_the_key_selects_what_no_list_selects(vector):
    session, request = received(vector("intel229_sellist"))
    assert session.respond(plan(request)) == vector("resp_intel229_sel")
