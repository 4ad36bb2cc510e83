// Verifies a Treeline log with Go's own transparency log packages, the ones behind sum.golang.org.
//
//	verify DIR VKEY-FILE PROOF-FILE
//
// It re-derives the root of the log directory DIR from its entries, opens the checkpoint with the public key, and checks
// the proof against that checkpoint. Exit status 0: accepted; 1: rejected; 2: it could not be tried.
package main

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func reject(format string, args ...interface{}) {
	fmt.Printf("rejected: "+format+"\n", args...)
	os.Exit(1)
}

func read(path string) []byte {
	data, err := os.ReadFile(path)
	if err != nil {
		reject("%v", err)
	}
	return data
}

// open returns size and root of a checkpoint that the key has signed.
func open(checkpoint []byte, verifier note.Verifier) (int64, tlog.Hash) {
	opened, err := note.Open(checkpoint, note.VerifierList(verifier))
	if err != nil {
		reject("checkpoint: %v", err)
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) < 4 || lines[0] != verifier.Name() {
		reject("checkpoint: not of the log %s", verifier.Name())
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		reject("checkpoint: %v", err)
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		reject("checkpoint: %v", err)
	}
	return size, root
}

// entries reads the log's entries as c2sp.org/tlog-tiles lays them out.
func entries(dir string, size int64) [][]byte {
	var all [][]byte
	for bundle := int64(0); bundle*256 < size; bundle++ {
		name := fmt.Sprintf("%03d", bundle%1000)
		for rest := bundle / 1000; rest > 0; rest /= 1000 {
			name = fmt.Sprintf("x%03d/%s", rest%1000, name)
		}
		width := size - bundle*256
		if width < 256 {
			name = fmt.Sprintf("%s.p/%d", name, width)
		} else {
			width = 256
		}
		data := read(filepath.Join(dir, "tile/entries", name))
		for i := int64(0); i < width; i++ {
			if len(data) < 2 || len(data) < 2+int(binary.BigEndian.Uint16(data)) {
				reject("bundle %s ends inside entry %d", name, i)
			}
			end := 2 + int(binary.BigEndian.Uint16(data))
			all = append(all, data[2:end])
			data = data[end:]
		}
		if len(data) != 0 {
			reject("bundle %s has bytes behind its entries", name)
		}
	}
	return all
}

type hashes []tlog.Hash

func (h hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var read []tlog.Hash
	for _, index := range indexes {
		if index >= int64(len(h)) {
			return nil, fmt.Errorf("there is no hash %d", index)
		}
		read = append(read, h[index])
	}
	return read, nil
}

// checkProof checks a c2sp.org/tlog-proof with nothing but the key and the entry it is for.
func checkProof(text string, verifier note.Verifier, all [][]byte) {
	parts := strings.SplitN(text, "\n\n", 2)
	if len(parts) != 2 {
		reject("proof: it has no checkpoint")
	}
	lines := strings.Split(parts[0], "\n")
	if len(lines) < 2 || lines[0] != "c2sp.org/tlog-proof@v1" || !strings.HasPrefix(lines[1], "index ") {
		reject("proof: not a tlog-proof")
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[1], "index "), 10, 64)
	if err != nil || index >= int64(len(all)) {
		reject("proof: there is no such entry")
	}
	var proof tlog.RecordProof
	for _, line := range lines[2:] {
		hash, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(hash) != tlog.HashSize {
			reject("proof: %q is not a hash", line)
		}
		var h tlog.Hash
		copy(h[:], hash)
		proof = append(proof, h)
	}
	size, root := open([]byte(parts[1]), verifier)
	if err := tlog.CheckRecord(proof, size, root, index, tlog.RecordHash(all[index])); err != nil {
		reject("proof: %v", err)
	}
}

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: verify DIR VKEY-FILE PROOF-FILE")
		os.Exit(2)
	}
	dir := os.Args[1]
	verifier, err := note.NewVerifier(strings.TrimSpace(string(read(os.Args[2]))))
	if err != nil {
		reject("key: %v", err)
	}
	size, root := open(read(filepath.Join(dir, "checkpoint")), verifier)
	all := entries(dir, size)
	var stored hashes
	for i, entry := range all {
		more, err := tlog.StoredHashes(int64(i), entry, stored)
		if err != nil {
			reject("entry %d: %v", i, err)
		}
		stored = append(stored, more...)
	}
	derived, err := tlog.TreeHash(size, stored)
	if err != nil {
		reject("tree: %v", err)
	}
	if derived != root {
		reject("the root of the entries is %v, and %v was signed", derived, root)
	}
	checkProof(string(read(os.Args[3])), verifier, all)
	fmt.Printf("accepted: %d entries\n", size)
}
