package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// children are the components' processes, each with a log file. In the node's PID namespace
// this process is number 1, so it reaps containerd's orphaned shims as well: Go's own
// Cmd.Wait would leave those, and a general wait beside it would steal its answers.
type children struct {
	dir  string
	died chan error

	mu    sync.Mutex
	order []int
	byPID map[int]string
}

func newChildren(dir string) *children {
	c := &children{dir: dir, died: make(chan error, 16), byPID: map[int]string{}}
	go c.reap()
	return c
}

// component starts this binary again as one component.
func (c *children) component(name string, args ...string) error {
	return c.start(name, "/proc/self/exe", append([]string{"e2ecluster", name}, args...)...)
}

func (c *children) start(name, path string, argv ...string) error {
	c.mu.Lock() // reap must not see a death before the birth is written down
	defer c.mu.Unlock()
	log, err := os.Create(filepath.Join(c.dir, name+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(path)
	cmd.Args = argv
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return err
	}
	c.order = append(c.order, cmd.Process.Pid)
	c.byPID[cmd.Process.Pid] = name
	return nil
}

func (c *children) reap() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.ECHILD):
			time.Sleep(20 * time.Millisecond)
		case err == nil:
			c.mu.Lock()
			name, ours := c.byPID[pid]
			delete(c.byPID, pid)
			c.mu.Unlock()
			if ours {
				c.died <- fmt.Errorf("%s ended with status %d, signal %d (see %s)",
					name, status.ExitStatus(), status.Signal(), filepath.Join(c.dir, name+".log"))
			}
		}
	}
}

// stop ends the children, last started first, and kills what still runs after
// a second: nobody needs this cluster's data again.
func (c *children) stop() {
	c.signal(syscall.SIGTERM)
	for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		c.mu.Lock()
		left := len(c.byPID)
		c.mu.Unlock()
		if left == 0 {
			return
		}
	}
	c.signal(syscall.SIGKILL)
}

func (c *children) signal(s syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := len(c.order) - 1; i >= 0; i-- {
		if _, runs := c.byPID[c.order[i]]; runs {
			syscall.Kill(c.order[i], s)
		}
	}
}
