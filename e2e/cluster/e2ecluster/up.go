package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// runUp starts a cluster and stays until SIGTERM, SIGINT, a child's death, or the end of its
// standard input: that is the lifeline to whoever started it, and a line "keep" cuts it.
// When all is ready it prints one line, "ready KUBECONFIG", on standard output.
func runUp(args []string) error {
	fs := flag.NewFlagSet("up", flag.ContinueOnError)
	dir := fs.String("dir", "", "state directory (made; must be new)")
	host := fs.String("host", "127.0.0.1", "address to serve the API on, and the node's")
	containerd := fs.String("node", "", "run a node too: the configuration of its containerd; needs new namespaces")
	cri := fs.String("cri", "", "containerd's socket, as in that configuration")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *dir == "" {
		return fmt.Errorf("up: --dir is needed")
	}
	runtime.LockOSThread() // Pdeathsig follows the thread that forks
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	start := time.Now()
	d, err := filepath.Abs(*dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(d, 0o755); err != nil {
		return err
	}
	if *containerd != "" {
		if err := prepareNode(d, *host); err != nil {
			return err
		}
	}
	c := newChildren(d)
	defer c.stop()
	go func() {
		lifeline(os.Stdin)
		c.stop()
		os.Exit(0)
	}()
	if *containerd != "" {
		if err := c.start("containerd", "/usr/bin/containerd", "containerd", "--config", *containerd); err != nil {
			return err
		}
	}
	s, err := prepare(d, *host, *cri)
	if err != nil {
		return err
	}
	if err := s.controlPlane(c); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "API server ready after %.1fs\n", time.Since(start).Seconds())
	if *containerd != "" {
		if err := s.node(c); err != nil {
			return err
		}
	}
	fmt.Printf("ready %s\n", filepath.Join(d, "admin.kubeconfig"))
	select {
	case <-stop:
		return nil
	case err := <-c.died:
		return err
	}
}

// lifeline returns when the other end of the pipe is gone without having said "keep".
func lifeline(r io.Reader) {
	for lines := bufio.NewScanner(r); lines.Scan(); {
		if lines.Text() == "keep" {
			select {}
		}
	}
}

// prepare chooses ports and writes all certificates and kubeconfigs.
func prepare(dir, host, cri string) (settings, error) {
	s := settings{dir: dir, host: host, cri: cri}
	p, err := newPKI(filepath.Join(dir, "pki"))
	if err != nil {
		return s, err
	}
	ports, err := freePorts(host, 3)
	if err != nil {
		return s, err
	}
	s.pki, s.port = p, ports[0]
	s.server = fmt.Sprintf("https://%s", net.JoinHostPort(host, fmt.Sprint(s.port)))
	s.etcd = fmt.Sprintf("http://127.0.0.1:%d", ports[1])
	s.peer = fmt.Sprintf("http://127.0.0.1:%d", ports[2])
	if err := p.issue("apiserver", pkix.Name{CommonName: "kube-apiserver"}, host, "127.0.0.1", "localhost", serviceIP,
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"); err != nil {
		return s, err
	}
	if err := p.issue("front-proxy", pkix.Name{CommonName: "front-proxy-client"}); err != nil {
		return s, err
	}
	for file, subject := range map[string][]string{
		"admin":          {"e2e-admin", "system:masters"},
		"kube-scheduler": {"system:kube-scheduler"},
		"kube-proxy":     {"system:kube-proxy"},
		"kubelet":        {"system:node:" + nodeName, "system:nodes"},
	} {
		if err := p.kubeconfig(s.path(file), s.server, subject[0], subject[1:]...); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (s settings) controlPlane(c *children) error {
	if err := c.component("etcd", "--data-dir="+s.path("etcd"), "--client-url="+s.etcd, "--peer-url="+s.peer); err != nil {
		return err
	}
	// An API server that finds no etcd at first comes back to it only seconds later.
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.etcd, "http://"))
		if err == nil {
			conn.Close()
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("etcd does not listen: %w (see %s)", err, s.path("etcd.log"))
		}
	}
	if err := c.component("kube-apiserver", s.apiserver()...); err != nil {
		return err
	}
	if err := s.ready(c); err != nil {
		return err
	}
	if err := c.component("kube-controller-manager", s.controllerManager()...); err != nil {
		return err
	}
	return c.component("kube-scheduler", s.scheduler()...)
}

func (s settings) node(c *children) error {
	kubelet, err := s.kubelet()
	if err != nil {
		return err
	}
	if err := c.component("kubelet", kubelet...); err != nil {
		return err
	}
	proxy, err := s.kubeProxy()
	if err != nil {
		return err
	}
	if err := c.component("kube-proxy", proxy...); err != nil {
		return err
	}
	return c.component("addons", s.addons()...)
}

func (s settings) ready(c *children) error {
	pool := x509.NewCertPool()
	pool.AddCert(s.pki.cert)
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		select {
		case err := <-c.died:
			return err
		default:
		}
		r, err := client.Get(s.server + "/readyz")
		if err != nil {
			continue
		}
		io.Copy(io.Discard, r.Body)
		r.Body.Close()
		if r.StatusCode == http.StatusOK {
			return nil
		}
	}
	return fmt.Errorf("the API server was not ready within two minutes (see %s)", s.path("kube-apiserver.log"))
}

func freePorts(host string, n int) ([]int, error) {
	var ports []int
	for range n {
		l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			return nil, err
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
