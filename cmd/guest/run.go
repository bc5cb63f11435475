// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"encoding/json"
	"os"
	"sync/atomic"

	"netlinklabs/internal/guest"
	"netlinklabs/internal/trace"
	"netlinklabs/internal/wire"
)

// run runs the program under test once and sends its events, with what it prints
// among them, as they come. It judges nothing.
func run() error {
	lab, err := wire.LoadLab()
	if err != nil {
		return err
	}
	records, err := wire.OpenRecords(lab.Boot)
	if err != nil {
		return err
	}
	var waits atomic.Int64 // of nlecho that are under way
	held := make(chan struct{}, 1<<16)
	cfg := trace.Config{
		Keep:   true,
		Probes: []string{trace.Release},
		Events: append(trace.DescriptorEvents(), trace.NamespaceEvents()...),
		Emit: func(e trace.Event) {
			switch e.Name {
			case trace.EchoWait:
				waits.Add(1)
				if e.Int("hold") != 0 {
					held <- struct{}{}
				}
			case trace.EchoWake:
				waits.Add(-1)
			}
			if b, err := json.Marshal(e); err == nil {
				records.Send(wire.Record{Kind: wire.KindEvent, Event: b})
			}
			if e.Name == trace.EchoReject && e.Int("reason") == trace.RejectedDeep {
				records.Send(wire.Record{Kind: wire.KindDied, Text: guest.DeepRecursion})
				os.Exit(1)
			}
		},
	}
	if lab.Shared {
		cfg.Keep, cfg.Instance = false, wire.Instance
	}
	cfg.Add(lab.Trace...)
	collector, err := trace.Start(cfg)
	if err != nil {
		return err
	}
	go release(held, collector, records)
	records.Send(wire.Record{Kind: wire.KindBegin})
	spec := guest.Spec{Program: lab.Program, Args: lab.Args, Capabilities: lab.Capabilities,
		Excused: func() bool { return waits.Load() > 0 }}
	ready := make(chan int, 1)
	p, err := spec.Start(func(o wire.Output) {
		pid := <-ready
		ready <- pid
		fd := 1
		if o.Stream == "stderr" {
			fd = 2
		}
		collector.Output(pid, fd, o.Text)
	})
	if err != nil {
		return err
	}
	ready <- p.PID()
	p.Input.Close()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		newAdmin(lab, p, collector).work(ctx)
		close(done)
	}()
	end := p.Wait()
	cancel()
	<-done
	if err := collector.Close(); err != nil {
		return err
	}
	if !end.OK() {
		records.Send(wire.Record{Kind: wire.KindNote, Text: "the program " + end.String()})
	}
	records.Send(wire.Record{Kind: wire.KindEnd})
	return nil
}

// release lets nlecho's held waits go on, each when all that happened before has
// left the VM: what comes next may be the kernel's end (lab 5).
func release(held <-chan struct{}, collector *trace.Collector, records *wire.Records) {
	for range held {
		if collector.Sync() != nil || records.Flush() != nil {
			return
		}
		if os.WriteFile("/sys/module/nlecho/parameters/release", []byte("1"), 0) != nil {
			return
		}
	}
}
