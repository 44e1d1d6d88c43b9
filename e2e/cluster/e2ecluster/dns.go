package main

import (
	"net"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
)

// names answers A questions for Services, over UDP: SERVICE.NAMESPACE.svc.cluster.local
// is the cluster IP, and the ready endpoints where there is none. All else does not exist.
// CoreDNS comes as a Docker image or not at all, and a test cluster needs no more than this.
type names struct {
	services corelisters.ServiceLister
	slices   discoverylisters.EndpointSliceLister
}

func (n names) serve(conn net.PacketConn) error {
	buf := make([]byte, 1500)
	for {
		size, from, err := conn.ReadFrom(buf)
		if err != nil {
			return err
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:size]) != nil || len(m.Questions) != 1 {
			continue
		}
		q := m.Questions[0]
		ips, found := n.lookup(q.Name.String())
		r := dnsmessage.Message{Questions: m.Questions, Header: dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true, RecursionAvailable: true, RecursionDesired: m.RecursionDesired}}
		if !found {
			r.RCode = dnsmessage.RCodeNameError
		} else if q.Type == dnsmessage.TypeA {
			for _, ip := range ips {
				r.Answers = append(r.Answers, dnsmessage.Resource{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 1},
					Body:   &dnsmessage.AResource{A: [4]byte(ip)}})
			}
		}
		if b, err := r.Pack(); err == nil {
			conn.WriteTo(b, from)
		}
	}
}

func (n names) lookup(name string) (ips []net.IP, found bool) {
	parts := strings.Split(strings.ToLower(strings.TrimSuffix(name, ".")), ".")
	if len(parts) != 5 || strings.Join(parts[2:], ".") != "svc.cluster.local" {
		return nil, false
	}
	svc, err := n.services.Services(parts[1]).Get(parts[0])
	if err != nil {
		return nil, false
	}
	add := func(address string) {
		if ip := net.ParseIP(address).To4(); ip != nil {
			ips = append(ips, ip)
		}
	}
	if svc.Spec.ClusterIP != corev1.ClusterIPNone {
		add(svc.Spec.ClusterIP)
		return ips, true
	}
	list, _ := n.slices.EndpointSlices(parts[1]).List(labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: parts[0]}))
	for _, s := range list {
		for _, e := range s.Endpoints {
			if e.Conditions.Ready == nil || *e.Conditions.Ready {
				for _, a := range e.Addresses {
					add(a)
				}
			}
		}
	}
	return ips, true
}
