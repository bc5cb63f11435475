// SPDX-License-Identifier: MIT

// Package lab is the catalogue of the workbook: it finds the labs, checks what
// their lab.toml says, writes the starters, keeps a student's code, hints and
// predictions, and builds programs and checks.
//
// It knows files and the go command only. What runs, and where, is the
// business of the packages that use it.
package lab
