// SPDX-License-Identifier: MIT

package kernel

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ulikunitz/xz"
)

func TestModules(t *testing.T) {
	tree := t.TempDir() + "/real"
	// As on a host, whose modules folder is reached by a link.
	dir := t.TempDir()
	if err := os.Symlink(tree, filepath.Join(dir, "modules")); err != nil {
		t.Fatal(err)
	}
	for file, depends := range map[string]string{
		"kernel/net/virtio_net.ko":      "net-failover,virtio_ring",
		"kernel/net/net_failover.ko":    "failover,serial_core",
		"kernel/net/failover.ko":        "",
		"kernel/lost/broken.ko":         "nowhere",
		"kernel/virtio/virtio-ring.ko":  "",
		"kernel/virtio/unrelated.ko.gz": "",
	} {
		write(t, filepath.Join(tree, file), string(makeModule(t, "depends="+depends)))
	}
	var packed bytes.Buffer
	w, err := xz.NewWriter(&packed)
	if err != nil {
		t.Fatal(err)
	}
	vsock := makeModule(t, "depends=failover")
	w.Write(vsock)
	w.Close()
	write(t, tree+"/kernel/net/vsock.ko.xz", packed.String())
	write(t, tree+"/modules.builtin", "kernel/drivers/serial/serial-core.ko\nkernel/net/unix/unix.ko\n")
	write(t, tree+"/modules.order", "")
	p := &Prepared{Dir: dir, Release: "6.1.0"}

	tests := map[string]struct{ ask, want []string }{
		"dependencies first":  {[]string{"virtio-net"}, []string{"failover", "net_failover", "virtio_ring", "virtio_net"}},
		"each once":           {[]string{"failover", "vsock", "failover"}, []string{"failover", "vsock"}},
		"what is built in":    {[]string{"unix"}, nil},
		"nothing asked, none": {nil, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := p.Modules(tt.ask...)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, m := range got {
				names = append(names, m.Name)
				if m.Name == "vsock" && !bytes.Equal(m.Data, vsock) {
					t.Error("vsock.ko.xz is not decompressed")
				}
			}
			if diff := cmp.Diff(tt.want, names); diff != "" {
				t.Errorf("modules (-want +got):\n%s", diff)
			}
		})
	}
	_, err = p.Modules("no-such")
	wantError(t, err, "6.1.0", "no module no_such")
	_, err = p.Modules("broken")
	wantError(t, err, "no module nowhere")
	_, err = (&Prepared{Dir: t.TempDir(), Release: "6.1.0"}).Modules("vsock")
	wantError(t, err, "modules", "leave KERNEL out")
}

// makeModule makes a file that looks like a module with these strings in its .modinfo.
func makeModule(t *testing.T, info ...string) []byte {
	var section bytes.Buffer
	for _, s := range info {
		section.WriteString(s + "\x00")
	}
	return makeELF(t, map[string][]byte{".modinfo": section.Bytes()})
}
