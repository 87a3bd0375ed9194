"""An HTTP server of a test, in threads of the test's process."""

import contextlib
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def begin(handler, size, status=200, **headers):
    handler.send_response(status)
    for name, value in {**headers, "Content-Length": str(size)}.items():
        handler.send_header(name, value)
    handler.end_headers()


def send(handler, status, headers, body):
    begin(handler, len(body), status, **headers)
    handler.wfile.write(body)


@contextlib.contextmanager
def serving_http(handle, certificate=None, *, port=0):
    """Let a function handle GET on localhost, with TLS if a certificate file is given; yield the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            handle(self)

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_):
            """Print no error when a client closes its connection early."""

    server = Server(("127.0.0.1", port), Handler)
    scheme = "http"
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket, scheme = context.wrap_socket(server.socket, server_side=True), "https"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"{scheme}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
