package main

import (
	"encoding/json"
	"net"
	"net/http"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	corelisters "k8s.io/client-go/listers/core/v1"
)

const (
	sidecar     = "aviary-proxy"
	metricsPort = "15020"
)

// group is one entry of Prometheus's HTTP service discovery.
type group struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// scrapeTargets answers with every running pod that has the sidecar. Debian's Prometheus is
// built without kubernetes_sd_configs, which would do the same.
func scrapeTargets(pods corelisters.PodLister) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		list, err := pods.List(labels.Everything())
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		groups := []group{}
		for _, p := range list {
			if p.Status.Phase == corev1.PodRunning && p.Status.PodIP != "" && hasSidecar(p) {
				groups = append(groups, group{
					Targets: []string{net.JoinHostPort(p.Status.PodIP, metricsPort)},
					Labels:  map[string]string{"namespace": p.Namespace, "pod": p.Name},
				})
			}
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(groups)
	}
}

// hasSidecar looks among the init containers too: a native sidecar is one.
func hasSidecar(p *corev1.Pod) bool {
	named := func(c corev1.Container) bool { return c.Name == sidecar }
	return slices.ContainsFunc(p.Spec.InitContainers, named) || slices.ContainsFunc(p.Spec.Containers, named)
}
