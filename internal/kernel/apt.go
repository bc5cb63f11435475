// SPDX-License-Identifier: MIT

package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Keyring is the file with Debian's archive keys. Debian has it; on Ubuntu the package debian-archive-keyring brings
// it.
const Keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// keyring is what newApt looks for; tests have none.
var keyring = Keyring

// Where Debian's packages are fetched from when the host's own apt does not tell a better place.
const (
	debianMirror   = "http://deb.debian.org/debian"
	securityMirror = "http://deb.debian.org/debian-security"
	debianArchive  = "http://archive.debian.org/debian"
	securityAttic  = "http://archive.debian.org/debian-security"
)

// A source is one apt source: the component main of a suite on a mirror.
type source struct {
	uri, suite string
	keys       string // path of the keyring that signs it
}

func (s source) String() string {
	return fmt.Sprintf("deb [signed-by=%s] %s %s main", s.keys, s.uri, s.suite)
}

// mirrors are the places that the host's own apt gets Debian and its security updates from.
type mirrors struct {
	main, security source // only uri and keys are set
}

// hostMirrors reads the host's apt sources below root, usually "/". What is not Debian's (Ubuntu, third parties) is
// passed over, and deb.debian.org stands in for what is missing.
func hostMirrors(root string) mirrors {
	m := mirrors{
		main:     source{uri: debianMirror, keys: Keyring},
		security: source{uri: securityMirror, keys: Keyring},
	}
	files, _ := filepath.Glob(filepath.Join(root, "etc/apt/sources.list.d/*.sources"))
	lists, _ := filepath.Glob(filepath.Join(root, "etc/apt/sources.list.d/*.list"))
	files = append(append([]string{filepath.Join(root, "etc/apt/sources.list")}, lists...), files...)
	var foundMain, foundSecurity bool
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // absent or forbidden: the defaults serve
		}
		parse := parseList
		if strings.HasSuffix(file, ".sources") {
			parse = parseDeb822
		}
		for _, s := range parse(string(data)) {
			codename, security := strings.CutSuffix(s.suite, "-security")
			switch {
			case !slices.Contains(debianSuites, codename):
			case security && !foundSecurity:
				m.security, foundSecurity = source{uri: s.uri, keys: s.keys}, true
			case !security && !foundMain:
				m.main, foundMain = source{uri: s.uri, keys: s.keys}, true
			}
		}
	}
	return m
}

// debianSuites are the names a Debian host's sources can have.
var debianSuites = []string{
	"bullseye", "bookworm", "trixie", "forky", "duke", "sid",
	"oldoldstable", "oldstable", "stable", "testing", "unstable",
}

// isDebian tells by its address whether a source is a mirror of Debian: third parties use Debian's suite names, with
// the component main, for their own packages. A wrong guess costs a second try, since Debian's keys have not signed it.
func isDebian(uri string) bool {
	uri = strings.TrimRight(uri, "/")
	return strings.HasSuffix(uri, "/debian") || strings.HasSuffix(uri, "/debian-security") ||
		strings.HasPrefix(uri, "mirror+file:") && strings.Contains(uri, "debian") ||
		strings.Contains(uri, "snapshot.debian.org/")
}

// parseList reads the one-line style of sources.list(5).
func parseList(text string) (found []source) {
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		options := ""
		if open, end := strings.Index(line, "["), strings.Index(line, "]"); open >= 0 && end > open {
			options = line[open+1 : end]
			line = line[:open] + line[end+1:]
		}
		f := strings.Fields(line)
		if len(f) < 4 || f[0] != "deb" || !slices.Contains(f[3:], "main") || !isDebian(f[1]) {
			continue
		}
		keys := ""
		for _, o := range strings.Fields(options) {
			if k, v, _ := strings.Cut(o, "="); strings.EqualFold(k, "signed-by") {
				keys = v
			}
		}
		found = append(found, source{uri: f[1], suite: f[2], keys: keysOr(keys)})
	}
	return found
}

// parseDeb822 reads the stanzas of a .sources file, sources.list(5).
func parseDeb822(text string) (found []source) {
	for stanza := range strings.SplitSeq(strings.ReplaceAll(text, "\r\n", "\n"), "\n\n") {
		fields := map[string]string{}
		key := ""
		for line := range strings.Lines(stanza) {
			switch {
			case strings.HasPrefix(line, "#"):
			case strings.HasPrefix(line, " "), strings.HasPrefix(line, "\t"): // a folded line
				fields[key] += " " + strings.TrimSpace(line)
			default:
				k, v, _ := strings.Cut(line, ":")
				key = strings.ToLower(strings.TrimSpace(k))
				fields[key] = strings.TrimSpace(v)
			}
		}
		if strings.EqualFold(fields["enabled"], "no") ||
			!slices.Contains(strings.Fields(fields["types"]), "deb") ||
			!slices.Contains(strings.Fields(fields["components"]), "main") {
			continue
		}
		for _, uri := range strings.Fields(fields["uris"]) {
			for _, suite := range strings.Fields(fields["suites"]) {
				if isDebian(uri) {
					found = append(found, source{uri: uri, suite: suite, keys: keysOr(fields["signed-by"])})
				}
			}
		}
	}
	return found
}

// keysOr returns the path in a Signed-By field, or Debian's keyring where that holds a key itself, a fingerprint or
// nothing.
func keysOr(signedBy string) string {
	if strings.HasPrefix(signedBy, "/") && !strings.ContainsAny(signedBy, " ,") {
		return signedBy
	}
	return Keyring
}

// sources returns where to look for the packages of a suite, in order: each element is tried when the one before has
// not got them. The security suite is asked first and alone because its list is small (0.4 MB against 9 MB); the rest
// together, since apt reads lists at the same time and passes over what fails.
func (m mirrors) sources(suite string, security, archived bool) [][]source {
	at := func(s source, suite string) source { s.suite = suite; return s }
	fallback := hostMirrors("/nonexistent")
	rest := []source{at(m.main, suite)}
	var tries [][]source
	if security {
		tries = append(tries, []source{at(m.security, suite+"-security")})
	} else {
		tries = append(tries, rest)
		rest = nil
	}
	for _, s := range []source{at(fallback.main, suite), at(fallback.security, suite+"-security")} {
		if (security || s.suite == suite) && !slices.Contains(rest, s) && !slices.Contains(tries[0], s) {
			rest = append(rest, s)
		}
	}
	if archived {
		rest = append(rest, source{debianArchive, suite, Keyring}, source{securityAttic, suite + "-security", Keyring})
	}
	if len(rest) > 0 {
		tries = append(tries, rest)
	}
	return tries
}

// An apt is a private apt: its lists, its cache and its sources stand in a folder of their own, and no package is
// installed as far as it knows. It needs no root and changes nothing on the host, whose settings (a proxy, say) it
// keeps.
type apt struct {
	dir      string
	progress func(string)
}

// newApt makes the folders of a private apt for Debian's architecture debArch in dir.
func newApt(dir, debArch string, progress func(string)) (*apt, error) {
	if !isFile(keyring) {
		return nil, &Error{Op: "fetch Debian's packages", Err: errors.New("Debian's keys are missing: " + keyring),
			Fix: "sudo apt-get install debian-archive-keyring"}
	}
	for _, sub := range []string{"state/lists/partial", "cache/archives/partial", "debs"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	// The host's hooks are cleared: they would clean, or tell of, the host's own apt.
	// Check-Valid-Until: the Release file of a suite that is no longer updated is past its date.
	conf := fmt.Sprintf(`
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Update::Pre-Invoke;
#clear Acquire::IndexTargets::deb::DEP-11;
#clear Acquire::IndexTargets::deb::DEP-11-icons-small;
#clear Acquire::IndexTargets::deb::DEP-11-icons;
#clear Acquire::IndexTargets::deb::DEP-11-icons-hidpi;
#clear Acquire::IndexTargets::deb::DEP-11-icons-large;
#clear Acquire::IndexTargets::deb::DEP-11-icons-large-hidpi;
#clear Acquire::IndexTargets::deb::Contents-deb;
#clear APT::Architectures;
#clear APT::Default-Release;
APT::Architecture "%[2]s";
APT::Architectures "%[2]s";
APT::Sandbox::User "root";
APT::Install-Recommends "false";
Dir::State "%[1]s/state";
Dir::State::status "/dev/null";
Dir::Cache "%[1]s/cache";
Dir::Etc::sourcelist "%[1]s/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Acquire::Languages "none";
Acquire::Check-Valid-Until "false";
Acquire::Retries "1";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
`, dir, debArch)
	if err := os.WriteFile(filepath.Join(dir, "apt.conf"), []byte(conf), 0o644); err != nil {
		return nil, err
	}
	return &apt{dir, progress}, nil
}

// run runs one of apt's programs.
func (a *apt) run(ctx context.Context, line func(string), name string, args ...string) (string, error) {
	out, err := run(ctx, filepath.Join(a.dir, "debs"), cleanEnv(), line, name, append([]string{"-c", filepath.Join(a.dir, "apt.conf")}, args...)...)
	var e *Error
	var f *failure
	switch {
	case errors.As(err, &e):
		e.Fix = "a Debian or Ubuntu machine has it; elsewhere give the folder of a prepared kernel as KERNEL"
	case errors.As(err, &f):
		f.output = complaints(f.output)
	}
	return out, err
}

var (
	failedFetch = regexp.MustCompile(`^(?:Failed to fetch|GPG error:) (\S+) +(.*?)(?: \[IP: .*\])?$`)
	followUp    = regexp.MustCompile(`^(Some index files failed|Unable to fetch some archives|Sorry, |Problem renaming|Internal Error)`)
)

// complaints returns the warnings and errors in the output of an apt program, a reason for a fetch that failed once
// whatever the number of files.
func complaints(output string) string {
	var lines, reasons []string
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		text, isError := strings.CutPrefix(line, "E: ")
		text, isWarning := strings.CutPrefix(text, "W: ")
		if !isError && !isWarning || followUp.MatchString(text) {
			continue
		}
		reason := text
		if m := failedFetch.FindStringSubmatch(text); m != nil {
			reason, text = m[2], m[1]+": "+m[2]
		}
		if !slices.Contains(reasons, reason) {
			reasons, lines = append(reasons, reason), append(lines, text)
		}
	}
	return strings.Join(lines, "\n")
}

// update reads the package lists of the sources and returns what apt printed. Sources that fail are passed over: the
// packages found tell whether it did its work.
func (a *apt) update(ctx context.Context, sources []source) (output string, err error) {
	var text strings.Builder
	for _, s := range sources {
		fmt.Fprintln(&text, s)
		a.progress("reading the package list of " + s.uri + " " + s.suite)
	}
	if err := os.WriteFile(filepath.Join(a.dir, "sources.list"), []byte(text.String()), 0o644); err != nil {
		return "", err
	}
	out, err := a.run(ctx, nil, "apt-get", "-q", "update")
	err = unlessFailed(err)
	if err == nil && diskFull(errors.New(out)) {
		err = unix.ENOSPC
	}
	return out, err
}

var (
	getLine   = regexp.MustCompile(`^Get:\d+ \S+ \S+ \S+ (\S+) \S+ (\S+) \[(.*)\]$`)
	uriLine   = regexp.MustCompile(`^'[^']+' (\S+)_[^_ ]+_[^_ ]+\.deb `)
	dependsOn = regexp.MustCompile(`^\S+$`)
)

// find reads the package lists of one try after the other, until names, given the lists, returns packages. It returns
// those.
func (a *apt) find(ctx context.Context, what string, tries [][]source, names func() ([]string, error)) ([]string, error) {
	var output string
	for _, sources := range tries {
		more, err := a.update(ctx, sources)
		if err != nil {
			return nil, err
		}
		output += more
		found, err := names()
		if err != nil || len(found) > 0 {
			return found, err
		}
	}
	reasons := complaints(output)
	if reasons == "" {
		reasons = "no source serves it"
	}
	return nil, &Error{Op: "fetch " + what, Err: errors.New(reasons),
		Fix: "look at the network (and apt's proxy), or give the folder of a prepared kernel as KERNEL"}
}

// dependencies returns the packages that the named ones depend on, themselves included and whatever the alternative,
// in so far as they match. It returns nothing where one of the named ones is not served.
func (a *apt) dependencies(ctx context.Context, match func(string) bool, packages ...string) ([]string, error) {
	out, err := a.run(ctx, nil, "apt-cache", append([]string{"depends", "--recurse", "--important", "--no-conflicts",
		"--no-breaks", "--no-replaces"}, packages...)...)
	if err != nil {
		return nil, unlessFailed(err)
	}
	var found []string
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\n")
		if dependsOn.MatchString(line) && match(line) {
			found = append(found, line)
		}
	}
	return found, nil
}

// closure returns what apt would install on an empty system to have the packages, or nothing where one is not served.
func (a *apt) closure(ctx context.Context, packages ...string) ([]string, error) {
	out, err := a.run(ctx, nil, "apt-get", append([]string{"-qq", "-y", "--print-uris", "install"}, packages...)...)
	if err != nil {
		return nil, unlessFailed(err)
	}
	var found []string
	for line := range strings.Lines(out) {
		if m := uriLine.FindStringSubmatch(line); m != nil {
			found = append(found, m[1])
		}
	}
	return found, nil
}

// unlessFailed drops the error of a program that failed: so apt tells that a package is not served.
func unlessFailed(err error) error {
	var f *failure
	if errors.As(err, &f) {
		return nil
	}
	return err
}

// download fetches the packages; apt checks their hashes. It returns the files.
func (a *apt) download(ctx context.Context, packages []string) ([]string, error) {
	_, err := a.run(ctx, func(line string) {
		// The small ones take no time.
		if m := getLine.FindStringSubmatch(line); m != nil && strings.HasSuffix(m[3], "MB") {
			a.progress(fmt.Sprintf("fetching %s %s (%s)", m[1], m[2], m[3]))
		}
	}, "apt-get", append([]string{"-q", "download"}, packages...)...)
	var f *failure
	if errors.As(err, &f) && !diskFull(err) {
		return nil, &Error{Op: "fetch Debian's packages", Err: errors.New(f.output), Fix: "look at the network (and apt's proxy), and try again"}
	}
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(a.dir, "debs", "*.deb"))
	if err == nil && len(files) != len(packages) {
		err = fmt.Errorf("apt-get download fetched %d of %d packages", len(files), len(packages))
	}
	return files, err
}
