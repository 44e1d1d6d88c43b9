"""Two hops with mutual TLS between them: the caller's proxy, and the proxy of the application that it calls. Both are on the
proxy's CPU, and both are counted. Every connection between them shows a certificate of its own at either end (ECDSA P-256, TLS 1.3)."""

import subprocess
import urllib.request

from candidates import Aviary, Candidate, Envoy, HAProxy

TRUST = "spiffe://cluster.local/ns/shop/sa"


class Pair(Candidate):
    """`proxies` are the two processes. What is called is the backend `a`, whatever the share."""

    proxies = ()
    splits = False

    def pids(self):
        return [pid for proxy in self.proxies for pid in proxy.pids()]

    def certificates(self):
        """Writes ca.pem, and for either proxy its key and certificate, in the folder of this start."""
        subprocess.run([self.programs["bench-certificates"], self.work, f"{TRUST}/caller", f"{TRUST}/called"], check=True)
        return {"CA": f"{self.work}/ca.pem", "CALLER": f"{self.work}/caller.pem", "CALLED": f"{self.work}/called.pem"}


class AviaryPair(Pair, Aviary):
    """Two sidecars with certificates from their control plane."""

    name = "aviary"

    def launch(self, share):
        self.port_h2 = self.port
        called = self.port + 6
        self.control_plane(share, "--sidecar", called)
        self.proxies = (
            self.sidecar("called", self.port + 4, called, self.port + 7),
            self.sidecar("caller", self.port, self.port + 3, self.admin),
        )

    def start(self, share):
        super().start(share)
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port + 7}/metrics", timeout=5) as metrics:
            lines = metrics.read().decode().splitlines()
        made = [line for line in lines if line.startswith("aviary_tls_handshakes_total") and 'side="inbound"' in line]
        if not any('result="success"' in line and not line.endswith(" 0") for line in made):
            raise RuntimeError(f"the two sidecars do not speak TLS: {made}")


class EnvoyPair(Pair, Envoy):
    """The caller's proxy believes one name, as ours does."""

    name = "envoy"

    def launch(self, share):
        self.port_h2 = self.port
        files, called = self.certificates(), self.port + 6
        tls = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
        own = "tls_params: {{tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3}}, " \
            "tls_certificates: [{{certificate_chain: {{filename: {0}}}, private_key: {{filename: {0}}}}}]"
        peer = f'match_typed_subject_alt_names: [{{san_type: URI, matcher: {{exact: "{TRUST}/called"}}}}]'
        roots = f"trusted_ca: {{filename: {files['CA']}}}"
        callers = (
            f'transport_socket: {{name: envoy.transport_sockets.tls, typed_config: {{"@type": {tls}.DownstreamTlsContext, '
            f"require_client_certificate: true, common_tls_context: {{alpn_protocols: [h2, http/1.1], "
            f"{own.format(files['CALLED'])}, validation_context: {{{roots}}}}}}}}}"
        )
        endpoints = (
            f'transport_socket: {{name: envoy.transport_sockets.tls, typed_config: {{"@type": {tls}.UpstreamTlsContext, '
            f"common_tls_context: {{{own.format(files['CALLER'])}, validation_context: {{{roots}, {peer}}}}}}}}}"
        )
        self.render("envoy-routes.yaml", share)
        self.render("envoy-routes.yaml", 0, to="called-routes.yaml")
        self.proxies = (
            self.envoy(self.render(
                "envoy.yaml", share, to="called.yaml",
                PORT=called, ADMIN=self.port + 7, ROUTES="called-routes.yaml", CALLERS=callers,
            )),
            self.envoy(self.render("envoy.yaml", share, A=called, B=called, ENDPOINTS=endpoints)),
        )


class HAProxyPair(Pair, HAProxy):
    """HTTP/1.1 and HTTP/2 have ports of their own, as with one hop."""

    name = "haproxy"

    def launch(self, share):
        files, called = self.certificates(), self.port + 6
        both = f"ca-file {files['CA']} verify required ssl-min-ver TLSv1.3"
        callers, endpoints = f"ssl crt {files['CALLED']} {both}", f"ssl crt {files['CALLER']} {both}"
        self.proxies = (
            self.haproxy(self.render(
                "haproxy.cfg", 0, to="called.cfg", PORT=called, PORT_H2=called + 1, ADMIN=self.port + 8,
                CALLERS=f"{callers} alpn http/1.1", CALLERS_H2=f"{callers} alpn h2",
            )),
            self.haproxy(self.render(
                "haproxy.cfg", share, A=called, B=called, A_H2=called + 1, B_H2=called + 1,
                ENDPOINTS=f"{endpoints} alpn http/1.1", ENDPOINTS_H2=f"{endpoints} alpn h2",
            )),
        )


ALL = [AviaryPair, EnvoyPair, HAProxyPair]
