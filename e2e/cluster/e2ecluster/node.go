package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// prepareNode makes a machine of its own out of the namespaces (net, mount, PID) that this
// process was started in. Nothing here outlives them, so nothing here is ever undone.
func prepareNode(dir, address string) error {
	if os.Getpid() != 1 {
		return fmt.Errorf("--node makes mounts and links: only in new namespaces, as process 1 (unshare --net --mount --pid --fork)")
	}
	// What containerd, CNI and the kubelet write at fixed places.
	for _, place := range []string{"/run", "/var/lib", "/var/log"} {
		if err := syscall.Mount("tmpfs", place, "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("mount tmpfs on %s: %w", place, err)
		}
	}
	if err := hideSysctls(dir); err != nil {
		return err
	}
	// No dummy device on some machines: one end of a veth pair holds the node's address.
	for _, line := range []string{
		"link set lo up",
		"link add up0 type veth peer name up1",
		"addr add " + address + "/24 dev up0",
		"link set up0 up",
		"link set up1 up",
		"route add default dev up0",
	} {
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", line, err, out)
		}
	}
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)
}

// hideSysctls puts files over the sysctls that the kubelet sets for the whole machine:
// it reads the values that it wants, and the machine keeps its own.
func hideSysctls(dir string) error {
	for name, wanted := range map[string]string{
		"vm/overcommit_memory": "1", "vm/panic_on_oom": "0",
		"kernel/panic": "10", "kernel/panic_on_oops": "1",
		"kernel/keys/root_maxkeys": "1000000", "kernel/keys/root_maxbytes": "25000000",
	} {
		real := filepath.Join("/proc/sys", name)
		if _, err := os.Stat(real); err != nil {
			continue
		}
		file := filepath.Join(dir, "sysctl-"+filepath.Base(name))
		if err := os.WriteFile(file, []byte(wanted+"\n"), 0o644); err != nil {
			return err
		}
		if err := syscall.Mount(file, real, "", syscall.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s: %w", real, err)
		}
	}
	return nil
}
