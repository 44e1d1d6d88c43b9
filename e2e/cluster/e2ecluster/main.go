// e2ecluster is one binary with a whole single-node Kubernetes in it:
//
//	e2ecluster etcd | addons | kube-apiserver | kube-controller-manager | kube-scheduler |
//	           kube-proxy | kubelet | kubectl  FLAGS...   run that one component
//	e2ecluster up --dir DIR [...]                         make a PKI, start the components as
//	                                                      child processes, wait until ready
//
// Components are children, not goroutines: NewAPIServerCommand and friends each
// install the process's only signal handler (a second one panics), share one
// metrics registry and end the process with klog.Fatal.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	_ "time/tzdata"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	kcm "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

func main() {
	upstream := map[string]func() *cobra.Command{
		"kube-apiserver":          apiserver.NewAPIServerCommand,
		"kube-controller-manager": kcm.NewControllerManagerCommand,
		"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
		"kube-proxy":              proxy.NewProxyCommand,
		"kubelet":                 func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) },
		"kubectl":                 kubectl.NewDefaultKubectlCommand,
	}
	// As a hyperkube: by the name it was called by, or by its first argument.
	name, rest := filepath.Base(os.Args[0]), os.Args[1:]
	if _, ok := upstream[name]; !ok && len(os.Args) > 1 {
		name, rest = os.Args[1], os.Args[2:]
	}
	if command, ok := upstream[name]; ok {
		os.Args = append([]string{name}, rest...)
		os.Exit(cli.Run(command()))
	}
	var err error
	switch name {
	case "etcd":
		err = runEtcd(rest)
	case "addons":
		err = runAddons(rest)
	case "up":
		err = runUp(rest)
	default:
		err = fmt.Errorf("usage: e2ecluster up | kubectl | COMPONENT FLAGS (not %q)", name)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2ecluster:", err)
		os.Exit(1)
	}
}
