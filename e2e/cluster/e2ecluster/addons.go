package main

import (
	"context"
	"flag"
	"net"
	"net/http"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// runAddons runs what a cluster has besides Kubernetes itself, in one process and on one
// set of informers: a DNS server (dns.go), and the list of what Prometheus scrapes (targets.go).
func runAddons(args []string) error {
	fs := flag.NewFlagSet("addons", flag.ContinueOnError)
	kubeconfig := fs.String("kubeconfig", "", "kubeconfig")
	dns := fs.String("dns", "127.0.0.1:53", "UDP address of the DNS server")
	targets := fs.String("targets", "127.0.0.1:9091", "TCP address of the HTTP service discovery for Prometheus")
	if err := fs.Parse(args); err != nil {
		return err
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	f := informers.NewSharedInformerFactory(client, 0)
	n := names{f.Core().V1().Services().Lister(), f.Discovery().V1().EndpointSlices().Lister()}
	pods := f.Core().V1().Pods().Lister()
	f.Start(context.Background().Done())
	f.WaitForCacheSync(context.Background().Done())

	conn, err := net.ListenPacket("udp", *dns)
	if err != nil {
		return err
	}
	died := make(chan error, 2)
	go func() { died <- n.serve(conn) }()
	go func() { died <- http.ListenAndServe(*targets, scrapeTargets(pods)) }()
	return <-died
}
