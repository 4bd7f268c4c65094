"""A small web server for tests of services: it tells its process id, counts requests for flowd, and dies when asked."""

SERVER = """
import http.server, os, sys

class Answering(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/die":
            os._exit(7)
        with open(os.environ["FLOWD_METRICS"], "a") as metrics:
            metrics.write("requests=1\\n")
        self.send_response(200 if self.path != "/bad" else 500)
        self.end_headers()
        self.wfile.write(str(os.getpid()).encode())

    def log_message(self, *_):
        pass

print("up", flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answering).serve_forever()
"""
