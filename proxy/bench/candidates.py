"""The proxies: how each is started, and how its weights are changed while it runs."""

import glob
import os
import shutil
import signal
import socket
import subprocess
import time

from processes import LOAD_CPU, PROXY_CPU, Process

HERE = os.path.dirname(os.path.abspath(__file__))
CACHE = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
ENVOY_VERSION = "1.40.0"
BACKENDS = 21001
SERVICE = "10.96.0.7:80"
PATIENCE_S = 15
# What the files of conf/ say of callers and endpoints where there is no TLS.
NO_TLS = {"CALLERS": "", "CALLERS_H2": "proto h2", "ENDPOINTS": "", "ENDPOINTS_H2": "proto h2"}


class Candidate:
    """One proxy. `share` is that of the backend `b`, in percent."""

    name: str
    shifts = True
    """Whether its weights can be changed while it runs."""
    splits = True
    """Whether the backend `b` gets its share; all of it is the backend `a`'s otherwise."""

    def __init__(self, work, programs, port):
        self.work = os.path.join(work, self.name)
        self.programs = programs
        self.port, self.port_h2, self.admin = port, port + 1, port + 2
        self.processes = []
        self.version = 0

    def start(self, share):
        shutil.rmtree(self.work, ignore_errors=True)
        os.makedirs(self.work)
        self.launch(share)
        end = time.monotonic() + PATIENCE_S
        while not (self.answers(self.port) and self.answers(self.port_h2, "--http2-prior-knowledge")):
            if time.monotonic() > end or not all(process.running() for process in self.processes):
                said = "\n".join(process.said() for process in self.processes)
                raise RuntimeError(f"{self.name} does not serve:\n{said}")
            time.sleep(0.05)

    def answers(self, port, *options):
        url = f"http://127.0.0.1:{port}/1"
        curl = ["curl", "-sf", "-m", "2", "--noproxy", "*", "-o", "/dev/null", *options, url]
        return subprocess.run(curl).returncode == 0

    def stop(self):
        for process in self.processes:
            process.stop()
        self.processes = []

    def spawn(self, *command, cpu=PROXY_CPU, **how):
        log = os.path.join(self.work, f"{len(self.processes)}.log")
        process = Process(command, cpu, log, **how)
        self.processes.append(process)
        return process

    def pids(self):
        """Of the proxy itself."""
        return self.processes[-1].pids()

    def render(self, name, share, to=None, **more):
        """Fills in a file of conf/ and puts it in its place at once."""
        self.version += 1
        values = {
            "WORK": self.work, "PORT": self.port, "PORT_H2": self.port_h2, "ADMIN": self.admin,
            "A": BACKENDS, "B": BACKENDS + 1, "A_H2": BACKENDS, "B_H2": BACKENDS + 1, "SHARE_A": 100 - share, "SHARE_B": share,
            "SPLIT": {0: "* a;", 100: "* b;"}.get(share, f"{share}% b; * a;"), "VERSION": self.version,
            "ROUTES": "envoy-routes.yaml",
        } | NO_TLS | more
        with open(os.path.join(HERE, "conf", name)) as file:
            text = file.read()
        for key, value in values.items():
            text = text.replace(f"@{key}@", str(value))
        path = os.path.join(self.work, to or name)
        with open(path + ".new", "w") as file:
            file.write(text)
        os.rename(path + ".new", path)
        return path


class Aviary(Candidate):
    """The sidecar, with its control plane on the load's CPU; a shift returns when the sidecar has acknowledged it."""

    name = "aviary"

    def launch(self, share):
        self.port_h2 = self.port
        self.control_plane(share)
        self.sidecar("caller", self.port, self.port + 3, self.admin)

    def control_plane(self, share, *options):
        self.root = os.path.join(self.work, "root.pem")
        self.xds = self.spawn(
            self.programs["bench-xds"], "--port", self.port + 5, "--root", self.root, "--service", SERVICE,
            "--backends", BACKENDS, "--share", share, *options, cpu=LOAD_CPU, pipes=True,
        )
        if self.xds.answer() != "ready":
            raise RuntimeError(f"the xDS server does not serve: {self.xds.said()}")

    def sidecar(self, account, outbound, inbound, admin):
        """In the pod of a ServiceAccount; its token is its name."""
        token = os.path.join(self.work, f"{account}.token")
        with open(token, "w") as file:
            file.write(account)
        with open(self.root) as file:
            roots = file.read()
        return self.spawn(
            self.programs["bench-sidecar"], "--service", SERVICE, "--application", f"127.0.0.1:{BACKENDS}",
            env={
                "AVIARY_OUTBOUND_PORT": str(outbound), "AVIARY_INBOUND_PORT": str(inbound),
                "AVIARY_ADMIN_PORT": str(admin), "AVIARY_XDS_ADDRESS": f"https://localhost:{self.port + 5}",
                "AVIARY_ROOT_CERTS": roots, "AVIARY_TOKEN_FILE": token, "AVIARY_DRAIN_DELAY": "0",
                "POD_NAME": f"{account}-1", "POD_NAMESPACE": "shop", "AVIARY_WORKLOAD": account,
            },
        )

    def shift(self, share):
        self.xds.ask(str(share))


class Envoy(Candidate):
    """Routes come from a file that Envoy watches."""

    name = "envoy"

    def launch(self, share):
        self.port_h2 = self.port
        self.render("envoy-routes.yaml", share)
        self.envoy(self.render("envoy.yaml", share))

    def envoy(self, config):
        binary = glob.glob(f"{CACHE}/aviary/envoy-{ENVOY_VERSION}/lib/python3*/site-packages/envoy/_bin/envoy")[0]
        return self.spawn(binary, "--disable-hot-restart", "--concurrency", 1, "-l", "warn", "-c", config)

    def shift(self, share):
        self.render("envoy-routes.yaml", share)


class HAProxy(Candidate):
    """Weights are set through the runtime socket."""

    name = "haproxy"

    def launch(self, share):
        self.haproxy(self.render("haproxy.cfg", share))

    def haproxy(self, config):
        return self.spawn("haproxy", "-db", "-q", "-f", config)

    def shift(self, share):
        # The heavier one first: at no moment are both 0, which is no server at all.
        weights = sorted([(100 - share, "a"), (share, "b")], reverse=True)
        commands = [
            f"set server {backend}/{server} weight {weight}"
            for backend in ("h1", "h2") for weight, server in weights
        ]
        with socket.create_connection(("127.0.0.1", self.admin), PATIENCE_S) as admin:
            admin.sendall((";".join(commands) + "\n").encode())
            answer = admin.makefile().read().strip()
        if answer:
            raise RuntimeError(f"haproxy: {answer}")


class Nginx(Candidate):
    """A change is a new configuration and a reload."""

    name = "nginx"

    def launch(self, share):
        self.spawn(
            "nginx", "-e", f"{self.work}/nginx.err", "-p", self.work, "-c", self.render("nginx.conf", share),
        )

    def shift(self, share):
        self.render("nginx.conf", share)
        self.processes[-1].popen.send_signal(signal.SIGHUP)


class Floor(Candidate):
    """The least that a proxy on hyper does."""

    name = "floor"
    shifts = False

    def launch(self, share):
        self.port_h2 = self.port
        self.spawn(self.programs["bench-floor"], "--port", self.port, "--backends", BACKENDS, "--share", share)


ALL = [Aviary, Envoy, HAProxy, Nginx, Floor]
