// SPDX-License-Identifier: MIT

package trace

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// What is much of the same is told by its beginning and its end, and nothing else is left out.
func TestFold(t *testing.T) {
	many := func(n int, format string, change func(i int, s *Step)) []Step {
		var steps []Step
		for i := range n {
			s := Step{Seq: i, Time: int64(i), Lane: KernelLane, Text: fmt.Sprintf(format, i+1)}
			if change != nil {
				change(i, &s)
			}
			steps = append(steps, s)
		}
		return steps
	}
	for name, c := range map[string]struct {
		steps []Step
		want  int
	}{
		"many":             {many(40, "reply %d of 40 to port 9: EAGAIN", nil), 4},
		"just too many":    {many(monotonous+1, "notice %d to port 9", nil), 4},
		"few":              {many(monotonous, "notice %d to port 9", nil), monotonous},
		"all alike":        {many(20, "%d", func(_ int, s *Step) { s.Text = "recvmsg port 9: 16 bytes" }), 4},
		"other numbers":    {many(20, "%d", func(i int, s *Step) { s.Text = fmt.Sprint("stack left ", 16000-400*i) }), 20},
		"slow":             {many(20, "notice %d", func(i int, s *Step) { s.Time *= 2 * pause }), 20},
		"printed":          {many(20, `prints "%d"`, func(_ int, s *Step) { s.Output = true }), 20},
		"sends of two":     {many(20, "sendmsg %d", func(i int, s *Step) { s.Arrow = Into }), 20},
		"by turns":         {many(20, "recvmsg %d", func(i int, s *Step) { s.Lane = Lane(i % 2) }), 20},
		"one is different": {many(16, "notice %d", func(i int, s *Step) { s.Failed = i == 8 }), 16},
	} {
		got := fold(c.steps)
		if len(got) != c.want {
			t.Errorf("%s: %d steps became %d, not %d", name, len(c.steps), len(got), c.want)
		}
	}
	folded := fold(many(40, "reply %d of 40", func(_ int, s *Step) { s.Arrow, s.Failed = Delivered, true }))
	want := []string{"reply 1 of 40", "reply 2 of 40", "… 37 more like these", "reply 40 of 40"}
	for i, s := range folded {
		if s.Text != want[i] || s.Arrow != Delivered || !s.Failed || s.Lane != KernelLane {
			t.Errorf("step %d: %+v, expected %q", i, s, want[i])
		}
	}
}

// A timeline that is drawn live leaves out the same steps, and none of those at the end of a run.
func TestFoldLive(t *testing.T) {
	text := `
		1 task_newtask pid=10 clone_flags=0
		10 sched_process_exec pid=10 old_pid=10 filename=/prog
		10 netlink_create sock=1 protocol=25
		10 netlink_bind sock=1 sk=101 portid=100
		10 netlink_insert sk=101 portid=100
		10 netlink_insert_ret ret=0
		10 netlink_bind_ret ret=0
		10 netlink_sendmsg sock=1 sk=101 len=20 namelen=12 to=0
		10 netlink_unicast ssk=101 skb=10 portid=0
		10 nlecho_input id=1 sk=900 portid=100 pid=100 nlmsg_len=20 replies=40`
	for n := range 40 {
		text += fmt.Sprintf("\n10 nlecho_reply id=1 to=100 n=%d ret=-11", n)
	}
	events := script(t, text)
	var whole, live bytes.Buffer
	if err := WriteText(&whole, New(events...).Program(10, "/prog").Timeline(), Style{}); err != nil {
		t.Fatal(err)
	}
	l := NewLive(&live, 10, "/prog", Style{})
	for _, e := range events {
		l.Add(e)
	}
	l.Close()
	diff(t, "live timeline", whole.String(), live.String())
	if got := live.String(); strings.Count(got, "reply") != 3 || !strings.Contains(got, "… 37 more") ||
		!strings.Contains(got, "reply 40 of 40") {
		t.Errorf("the live timeline is\n%s", got)
	}
}
