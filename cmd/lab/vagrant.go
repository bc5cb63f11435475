// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"netlinklabs/internal/cache"
	"netlinklabs/internal/lab"
	"netlinklabs/internal/place"
	"netlinklabs/internal/report"
	"netlinklabs/internal/trace"
	"netlinklabs/internal/vagrant"
	"netlinklabs/internal/vm"
)

// checkAway is checkOne in the Vagrant VM. The program is built here, where its
// author is told what does not compile; in the VM the tool builds the check and does
// the rest, see inside.
func (a *app) checkAway(l *lab.Lab, src source) (*report.Report, error) {
	r, err := a.request(l, src)
	if err != nil {
		return nil, err
	}
	last, err := a.vagrant.do(a, r, func(x answer) {
		if x.Earlier != nil && src.earlier != nil {
			src.earlier(x.Boot, *x.Earlier)
		}
	})
	if err != nil {
		return nil, err
	}
	if last.Report == nil {
		return nil, errors.New("the VM sent no report")
	}
	last.Report.Code, last.Report.Where = src.what, string(place.InVagrant)
	return last.Report, nil
}

// programAway is program in the Vagrant VM.
func (a *app) programAway(l *lab.Lab, src source, params settings, args []string, event func(trace.Event)) (*vm.Result, error) {
	r, err := a.request(l, src)
	if err != nil {
		return nil, err
	}
	r.Run, r.Args, r.Params = true, args, params.String()
	last, err := a.vagrant.do(a, r, func(x answer) {
		if x.Event != nil {
			event(*x.Event)
		}
	})
	if err != nil {
		return nil, err
	}
	if last.Result == nil {
		return nil, errors.New("the VM sent no result")
	}
	last.Result.Where = string(place.InVagrant)
	return last.Result, nil
}

// request builds the program and connects to the VM, both at the same time. An
// error of the code comes first: it is the student's own.
func (a *app) request(l *lab.Lab, src source) (request, error) {
	r := request{Lab: l.Name, Env: map[string]string{}}
	if l.Err != nil {
		return r, l.Err
	}
	if strings.ContainsRune(os.Getenv("KERNEL"), '/') {
		return r, usagef("KERNEL=%s is a folder of this machine, which the Vagrant VM does not have: leave KERNEL or WHERE=vagrant out", os.Getenv("KERNEL"))
	}
	for _, name := range insideEnv {
		if v := os.Getenv(name); v != "" {
			r.Env[name] = v
		}
	}
	dir, remove, err := cache.Scratch()
	if err != nil {
		return r, err
	}
	defer remove()
	ctx, cancel := context.WithCancel(a.ctx)
	defer cancel()
	var connecting sync.WaitGroup
	var noVM error
	connecting.Go(func() { noVM = a.connect(ctx) })
	program, err := src.build(a.ctx, a.builder(), dir, "program")
	if err != nil {
		cancel()
	}
	connecting.Wait()
	if err == nil {
		err = noVM
	}
	if err != nil {
		return r, err
	}
	if r.Program, err = os.ReadFile(program); err != nil {
		return r, err
	}
	r.Files, err = src.files(l)
	return r, err
}

// What the shell in the VM finds out before there is a tool to talk to.
const (
	notProvisioned = 91
	noProject      = 92
	notBuilt       = 93
	notSynced      = 94
)

// insideScript starts the other end, if the project there is that of the state. The
// marker is the last thing that provisioning makes. synced says that the state has
// just been brought there.
func insideScript(state string, synced bool) string {
	known, without := fmt.Sprintf(`[ "$(cat "$state" 2>/dev/null)" = %s ] || exit %d`, state, notSynced), notSynced
	if synced {
		without = noProject
		known = fmt.Sprintf(`mkdir -p "${state%%/*}" && echo %s >"$state" || exit %d`, state, notBuilt)
	}
	return fmt.Sprintf(`test -e %s || exit %d
cd netlink-labs && test -e cmd/build.sh || exit %d
state=${XDG_CACHE_HOME:-$HOME/.cache}/netlink-labs/synced
%s
lab=$(sh cmd/build.sh) || exit %d
exec "$lab" inside`, place.Marker, notProvisioned, without, known, notBuilt)
}

// session is a connection to the tool in the Vagrant VM, for all requests of one
// call of the tool.
type session struct {
	in    *json.Encoder
	out   *json.Decoder
	said  *vagrant.Tail // what came on the standard error
	ended func() error  // ends it, and says how it ended
}

// connect finds the VM and starts the other end, unless that was done, with the
// project there brought up to date. ctx is for the time until the other end answers.
func (a *app) connect(ctx context.Context) error {
	if a.vagrant != nil {
		return nil
	}
	dir, remove, err := cache.Scratch()
	if err != nil {
		return err
	}
	p := &vagrant.Project{Root: a.root, Say: a.progress.say}
	defer remove()
	m, err := p.Find(ctx, dir)
	if err != nil {
		return err
	}
	state, err := p.State()
	if err != nil {
		return err
	}
	a.progress.say("connecting to the VM")
	s, err := a.openSession(ctx, m, insideScript(state, false))
	if errors.Is(err, errNotSynced) {
		if err = m.Sync(ctx); err == nil {
			a.progress.say("connecting to the VM")
			s, err = a.openSession(ctx, m, insideScript(state, true))
		}
	}
	a.vagrant = s
	return err
}

var errNotSynced = errors.New("the project in the VM is not that of the host")

// openSession starts the other end by a script, and waits until it answers.
func (a *app) openSession(ctx context.Context, m *vagrant.Machine, script string) (*session, error) {
	s, err := a.startSession(m, script)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, s.close)
	var hello answer
	err = s.out.Decode(&hello)
	switch {
	case !stop():
		return nil, ctx.Err()
	case err != nil:
		return nil, s.broken(ctx)
	case hello.Version != insideVersion:
		s.close()
		return nil, errors.New("the project in the VM is of another version: `vagrant reload`, which brings it up to date")
	}
	return s, nil
}

func (a *app) startSession(m *vagrant.Machine, script string) (*session, error) {
	s := &session{said: &vagrant.Tail{Line: a.progress.say}}
	cmd, err := m.Command(a.ctx, script)
	if err != nil {
		return nil, err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	// What is under way in the VM is ended by the end of its input, and cleans up
	// before the connection ends.
	cmd.Cancel, cmd.WaitDelay = in.Close, time.Minute
	out, inner := io.Pipe()
	cmd.Stdout, cmd.Stderr = inner, s.said
	started, ended := make(chan error), make(chan error, 1)
	go func() {
		runtime.LockOSThread() // Pdeathsig follows the thread
		err := cmd.Start()
		started <- err
		if err == nil {
			err = cmd.Wait()
			inner.Close()
			ended <- err
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("ssh: %w", err)
	}
	s.in, s.out = json.NewEncoder(in), json.NewDecoder(out)
	s.ended = sync.OnceValue(func() error {
		in.Close()
		_, _ = io.Copy(io.Discard, out)
		return <-ended
	})
	return s, nil
}

// close ends the connection, when all is cleaned up at the other end.
func (s *session) close() { _ = s.ended() }

// broken says why there is no connection any more.
func (s *session) broken(ctx context.Context) error {
	err := s.ended()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	said := s.said.String()
	means := "the connection to the VM broke off; if it does not answer any more: `vagrant reload`"
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		switch exit.ExitCode() {
		case notSynced:
			return errNotSynced
		case notProvisioned:
			means = "the VM's provisioning has not come to its end: if it is not under way, `vagrant provision` repeats it and says what fails"
		case noProject:
			means = "the project is not in the VM, as ~/netlink-labs: `vagrant reload`"
		case notBuilt:
			means = "the tool could not be built in the VM: `vagrant provision` brings what it takes"
		}
	}
	if vagrant.Full(said) {
		means = vagrant.FullDisk
	}
	return &vagrant.Error{Means: means, Said: said}
}

// do sends a request, hands on what comes before the last answer, and returns that.
func (s *session) do(a *app, r request, each func(answer)) (answer, error) {
	if err := s.in.Encode(r); err != nil {
		return answer{}, s.broken(a.ctx)
	}
	for {
		var x answer
		if err := s.out.Decode(&x); err != nil {
			return answer{}, s.broken(a.ctx)
		}
		switch {
		case x.Say != "":
			a.progress.say(x.Say)
		case x.Text != nil:
			a.progress.clear()
			_, _ = a.err.Write(x.Text)
		case x.Last && x.Problem != "" && vagrant.Full(x.Problem):
			return x, &vagrant.Error{Means: vagrant.FullDisk, Said: x.Problem}
		case x.Last && x.Problem != "":
			return x, fmt.Errorf("in the VM: %s", x.Problem)
		case x.Last:
			return x, nil
		default:
			each(x)
		}
	}
}

// vagrantState tells doctor of Vagrant: it is in nobody's way who does without it.
func (e *examination) vagrantState() {
	if place.Marked() {
		e.say(good, "Vagrant", "this is the labs' VM: checks run on its own kernel (WHERE=here)")
		return
	}
	const what = "Vagrant"
	ctx, cancel := context.WithTimeout(e.a.ctx, 6*patience)
	defer cancel()
	p := &vagrant.Project{Root: e.a.root, Say: e.a.progress.say}
	version, err := p.Version(ctx)
	switch {
	case errors.Is(err, vagrant.ErrNotInstalled):
		e.say(note, what, "not installed, only needed for WHERE=vagrant: "+vagrant.Guide)
		return
	case err != nil:
		e.say(note, what, "%v", err)
		return
	}
	e.say(good, what, "%s", version)
	if _, err := os.Stat(filepath.Join(e.a.root, "Vagrantfile")); err != nil {
		return
	}
	switch s, err := p.Status(ctx); {
	case ctx.Err() != nil && e.a.ctx.Err() == nil:
		e.say(note, "Vagrant's VM", "vagrant status does not answer")
	case err != nil:
		e.say(note, "Vagrant's VM", "%v", err)
	case s.State == "running":
		e.say(good, "Vagrant's VM", "runs (%s): WHERE=vagrant checks there", s.Provider)
	case s.State == "not_created":
		e.say(note, "Vagrant's VM", "not made yet (%s), only needed for WHERE=vagrant: vagrant up", s.Provider)
	default:
		e.say(note, "Vagrant's VM", "%s (%s): vagrant up", s.State, s.Provider)
	}
}
