// SPDX-License-Identifier: MIT

package claims

import "testing"

func TestMain(m *testing.M) { Main(m) }
