package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
)

const (
	podCIDR     = "10.244.0.0/16"
	serviceCIDR = "10.96.0.0/16"
	serviceIP   = "10.96.0.1" // the kubernetes Service's
	nodeName    = "node1"

	// The defaults, 20 and 30, are for clusters that other people use too.
	apiQPS   = "--kube-api-qps=1000"
	apiBurst = "--kube-api-burst=2000"
)

// settings is what the components' flags are made of.
type settings struct {
	dir    string // state
	host   string // address of the API, and of the node
	server string // URL of the API
	etcd   string // URL of etcd
	peer   string // its own for other members, of which there are none
	port   int
	cri    string // containerd's socket
	pki    *pki
}

func (s settings) path(name string) string       { return filepath.Join(s.dir, name) }
func (s settings) kubeconfig(user string) string { return "--kubeconfig=" + s.path(user+".kubeconfig") }

func (s settings) apiserver() []string {
	p := s.pki
	flags := []string{
		"--etcd-servers=" + s.etcd, "--bind-address=" + s.host, "--advertise-address=" + s.host, fmt.Sprintf("--secure-port=%d", s.port),
		"--tls-cert-file=" + p.path("apiserver.crt"), "--tls-private-key-file=" + p.path("apiserver.key"),
		"--client-ca-file=" + p.path("ca.crt"), "--authorization-mode=Node,RBAC", "--allow-privileged=true",
		"--enable-admission-plugins=NodeRestriction", "--service-cluster-ip-range=" + serviceCIDR,
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + p.path("sa.key"), "--service-account-signing-key-file=" + p.path("sa.key"),
		"--requestheader-client-ca-file=" + p.path("ca.crt"), "--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + p.path("front-proxy.crt"), "--proxy-client-key-file=" + p.path("front-proxy.key"),
		"--kubelet-client-certificate=" + p.path("admin.crt"), "--kubelet-client-key=" + p.path("admin.key"),
		"--kubelet-preferred-address-types=InternalIP", "--cert-dir=" + s.path("run"), "--profiling=false",
	}
	if ip := net.ParseIP(s.host); ip != nil && ip.IsLoopback() {
		// Endpoints may not hold loopback addresses; the kubernetes Service stays without any.
		flags = append(flags, "--endpoint-reconciler-type=none")
	}
	return flags
}

func (s settings) controllerManager() []string {
	p := s.pki
	return []string{
		// The built-in role lets a controller do its work only with per-controller
		// credentials; without them the admin's are simplest.
		s.kubeconfig("admin"), "--use-service-account-credentials=false",
		"--leader-elect=false", "--secure-port=0", "--profiling=false",
		"--root-ca-file=" + p.path("ca.crt"), "--service-account-private-key-file=" + p.path("sa.key"),
		"--cluster-signing-cert-file=" + p.path("ca.crt"), "--cluster-signing-key-file=" + p.path("ca.key"),
		"--cluster-cidr=" + podCIDR, "--service-cluster-ip-range=" + serviceCIDR,
		apiQPS, apiBurst,
	}
}

func (s settings) scheduler() []string {
	return []string{s.kubeconfig("kube-scheduler"), "--leader-elect=false", "--secure-port=0", "--profiling=false", apiQPS, apiBurst}
}

func (s settings) addons() []string {
	return []string{s.kubeconfig("admin"), "--dns=" + net.JoinHostPort(s.host, "53"), "--targets=127.0.0.1:9091"}
}

func (s settings) kubeProxy() ([]string, error) {
	file := s.path("kube-proxy.yaml")
	return []string{"--config=" + file}, os.WriteFile(file, fmt.Appendf(nil, `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: %s
bindAddress: %s
hostnameOverride: %s
healthzBindAddress: ""
metricsBindAddress: 127.0.0.1:10249
clientConnection: {kubeconfig: %s}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
nftables: {syncPeriod: 30s, minSyncPeriod: 100ms}
`, podCIDR, s.host, nodeName, s.path("kube-proxy.kubeconfig")), 0o600)
}

func (s settings) kubelet() ([]string, error) {
	file := s.path("kubelet.yaml")
	flags := []string{s.kubeconfig("kubelet"), "--config=" + file, "--hostname-override=" + nodeName, "--node-ip=" + s.host,
		"--root-dir=" + s.path("kubelet-root"), "--cert-dir=" + s.path("kubelet-pki")}
	return flags, os.WriteFile(file, fmt.Appendf(nil, `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /e2e
failSwapOn: false
containerRuntimeEndpoint: unix://%s
address: %s
port: 10250
healthzPort: 0
readOnlyPort: 0
authentication: {anonymous: {enabled: false}, webhook: {enabled: false}, x509: {clientCAFile: %s}}
authorization: {mode: AlwaysAllow}
clusterDomain: cluster.local
clusterDNS: ["%s"]
resolvConf: ""
localStorageCapacityIsolation: false
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: "100Mi", nodefs.available: "0%%", nodefs.inodesFree: "0%%", imagefs.available: "0%%"}
enforceNodeAllocatable: ["pods"]
syncFrequency: 10s
fileCheckFrequency: 20s
nodeStatusUpdateFrequency: 4s
registerNode: true
podLogsDir: %s
maxPods: 110
makeIPTablesUtilChains: false
protectKernelDefaults: false
serializeImagePulls: false
volumePluginDir: %s
`, s.cri, s.host, s.pki.path("ca.crt"), s.host, s.path("pod-logs"), s.path("volume-plugins")), 0o600)
}
