// SPDX-License-Identifier: MIT

package vm

import (
	"encoding/json"
	"net"
)

// qmp speaks as much of the QEMU Machine Protocol as is needed: to hear why the
// machine stopped, and to wake one that hangs (qemu-qmp-ref(7)).
type qmp struct{ conn net.Conn }

func newQMP(c net.Conn) *qmp {
	q := &qmp{c}
	q.send("qmp_capabilities")
	return q
}

func (q *qmp) send(command string) {
	b, _ := json.Marshal(map[string]string{"execute": command})
	_, _ = q.conn.Write(append(b, '\n'))
}

// read hands the reason of each SHUTDOWN event to shutdown, until the end.
func (q *qmp) read(shutdown func(reason string)) {
	d := json.NewDecoder(q.conn)
	for {
		var m struct {
			Event string
			Data  struct{ Reason string }
		}
		if d.Decode(&m) != nil {
			return
		}
		if m.Event == "SHUTDOWN" {
			shutdown(m.Data.Reason)
		}
	}
}
