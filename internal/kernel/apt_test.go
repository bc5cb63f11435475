// SPDX-License-Identifier: MIT

package kernel

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseList(t *testing.T) {
	const text = `# deb http://old/debian bookworm main
deb http://deb.debian.org/debian bookworm main contrib # comment
deb-src http://deb.debian.org/debian bookworm main
deb [arch=amd64 signed-by=/k.gpg] https://mirror.example/debian/ bookworm-updates main
deb [ Signed-By=ABCDEF ] http://security.debian.org/debian-security bookworm-security non-free main
deb http://mirror.example/debian bookworm contrib
deb https://download.docker.com/linux/debian bookworm stable
deb https://packages.microsoft.com/debian/12/prod bookworm main
deb http://archive.ubuntu.com/ubuntu noble main
deb cdrom:[Debian GNU/Linux 12]/ bookworm main
deb broken
`
	want := []source{
		{"http://deb.debian.org/debian", "bookworm", Keyring},
		{"https://mirror.example/debian/", "bookworm-updates", "/k.gpg"},
		{"http://security.debian.org/debian-security", "bookworm-security", Keyring},
	}
	if diff := cmp.Diff(want, parseList(text), cmp.AllowUnexported(source{})); diff != "" {
		t.Errorf("sources (-want +got):\n%s", diff)
	}
}

func TestParseDeb822(t *testing.T) {
	const text = `Types: deb deb-src
# a comment
URIs: mirror+file:///etc/apt/mirrors/debian.list
Suites: bookworm
  bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/other.gpg

types: deb
uris: http://a.example/debian http://b.example/debian
suites: trixie
components: contrib main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEY
 -----END PGP PUBLIC KEY BLOCK-----

Enabled: no
Types: deb
URIs: http://c.example/debian
Suites: sid
Components: main

Types: deb-src
URIs: http://d.example/debian
Suites: sid
Components: main

Types: deb
URIs: http://archive.ubuntu.com/ubuntu/
Suites: noble
Components: main
`
	const file = "mirror+file:///etc/apt/mirrors/debian.list"
	want := []source{
		{file, "bookworm", "/usr/share/keyrings/other.gpg"},
		{file, "bookworm-updates", "/usr/share/keyrings/other.gpg"},
		{"http://a.example/debian", "trixie", Keyring},
		{"http://b.example/debian", "trixie", Keyring},
	}
	if diff := cmp.Diff(want, parseDeb822(text), cmp.AllowUnexported(source{})); diff != "" {
		t.Errorf("sources (-want +got):\n%s", diff)
	}
}

func TestHostMirrors(t *testing.T) {
	tests := map[string]struct {
		files          map[string]string
		main, security string
	}{
		"nothing": {nil, debianMirror, securityMirror},
		"a Debian host": {map[string]string{
			"sources.list.d/debian.sources": "Types: deb\nURIs: http://near/debian\nSuites: trixie trixie-updates\nComponents: main\n\n" +
				"Types: deb\nURIs: http://near/debian-security\nSuites: trixie-security\nComponents: main\n",
		}, "http://near/debian", "http://near/debian-security"},
		"an older one, with third parties": {map[string]string{
			"sources.list":             "deb http://near/debian bookworm main\n",
			"sources.list.d/pgdg.list": "deb http://apt.postgresql.org/pub/repos/apt bookworm-pgdg main\n",
			"sources.list.d/else.list": "deb http://far/debian stable main\n",
		}, "http://near/debian", securityMirror},
		"Ubuntu": {map[string]string{
			"sources.list.d/ubuntu.sources": "Types: deb\nURIs: http://archive.ubuntu.com/ubuntu\nSuites: noble noble-security\nComponents: main\n",
		}, debianMirror, securityMirror},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for file, text := range tt.files {
				write(t, filepath.Join(root, "etc/apt", file), text)
			}
			m := hostMirrors(root)
			if m.main.uri != tt.main || m.security.uri != tt.security {
				t.Errorf("got %s and %s, want %s and %s", m.main.uri, m.security.uri, tt.main, tt.security)
			}
		})
	}
}

func TestSourcesOrder(t *testing.T) {
	near := mirrors{main: source{uri: "http://near/debian", keys: Keyring}, security: source{uri: "http://near/sec", keys: Keyring}}
	own := hostMirrors(t.TempDir())
	tests := map[string]struct {
		got  [][]source
		want [][]string
	}{
		"a release, default mirrors": {own.sources("bookworm", true, false), [][]string{
			{securityMirror + " bookworm-security"},
			{debianMirror + " bookworm"},
		}},
		"a release, the host's mirrors": {near.sources("bookworm", true, false), [][]string{
			{"http://near/sec bookworm-security"},
			{"http://near/debian bookworm", debianMirror + " bookworm", securityMirror + " bookworm-security"},
		}},
		"an old release": {own.sources("bullseye", true, true), [][]string{
			{securityMirror + " bullseye-security"},
			{debianMirror + " bullseye", debianArchive + " bullseye", securityAttic + " bullseye-security"},
		}},
		"sid, default mirrors":    {own.sources("sid", false, false), [][]string{{debianMirror + " sid"}}},
		"sid, the host's mirrors": {near.sources("sid", false, false), [][]string{{"http://near/debian sid"}, {debianMirror + " sid"}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got [][]string
			for _, try := range tt.got {
				var names []string
				for _, s := range try {
					names = append(names, s.uri+" "+s.suite)
				}
				got = append(got, names)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("tries (-want +got):\n%s", diff)
			}
		})
	}
}

func TestComplaints(t *testing.T) {
	const output = `Err:1 http://deb.debian.org/debian sid InRelease
  Temporary failure resolving 'deb.debian.org'
Reading package lists...
W: Failed to fetch http://deb.debian.org/debian/dists/sid/InRelease  Temporary failure resolving 'deb.debian.org'
W: Failed to fetch http://deb.debian.org/debian/dists/sid/Packages  Temporary failure resolving 'deb.debian.org'
E: Failed to fetch http://deb.debian.org/x.deb  404  Not Found [IP: 192.0.2.1 80]
W: Some index files failed to download. They have been ignored, or old ones used instead.
E: The repository 'http://x sid InRelease' is not signed.
`
	const want = `http://deb.debian.org/debian/dists/sid/InRelease: Temporary failure resolving 'deb.debian.org'
http://deb.debian.org/x.deb: 404  Not Found
The repository 'http://x sid InRelease' is not signed.`
	if diff := cmp.Diff(want, complaints(output)); diff != "" {
		t.Errorf("complaints (-want +got):\n%s", diff)
	}
}

// write writes a file of a test and the folders it stands in.
func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}
