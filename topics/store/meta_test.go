package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
)

func TestBothStoresKeepTheContract(t *testing.T) {
	stores := map[string]func(t *testing.T) MetaStore{
		"bolt": func(t *testing.T) MetaStore {
			s, err := OpenBolt(filepath.Join(t.TempDir(), "meta.db"))
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		"mem": func(*testing.T) MetaStore { return NewMem() },
	}
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			defer s.Close()
			if v, err := s.Get("a"); v != nil || err != nil {
				t.Fatalf("an absent key: %q, %v", v, err)
			}
			if err := s.Update(map[string][]byte{"a": []byte("1"), "b": {}}); err != nil {
				t.Fatal(err)
			}
			if v, _ := s.Get("a"); string(v) != "1" {
				t.Fatalf("a = %q", v)
			}
			if v, _ := s.Get("b"); v == nil || len(v) != 0 {
				t.Fatalf("an empty value became %v", v)
			}
			if err := s.Update(map[string][]byte{"a": nil, "c": []byte("3")}); err != nil {
				t.Fatal(err)
			}
			if v, _ := s.Get("a"); v != nil {
				t.Fatalf("a deleted key has %q", v)
			}
			if err := s.Update(map[string][]byte{"d": []byte("4"), "big": make([]byte, MaxValueBytes+1)}); err == nil {
				t.Fatal("a value over the limit was taken")
			}
			if v, _ := s.Get("d"); v != nil {
				t.Fatal("half of a refused transaction is there")
			}
		})
	}
}

func TestBoltIsThereAfterReopening(t *testing.T) {
	file := filepath.Join(t.TempDir(), "meta.db")
	s, err := OpenBolt(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Update(map[string][]byte{"k": []byte("v")}); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenBolt(file); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Fatalf("a second opening: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = OpenBolt(file); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if v, err := s.Get("k"); !bytes.Equal(v, []byte("v")) || err != nil {
		t.Fatalf("%q, %v", v, err)
	}
}

func TestBoltNamesADamagedValueAndAForeignFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "meta.db")
	s, err := OpenBolt(file)
	if err != nil {
		t.Fatal(err)
	}
	err = s.db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket(metaBucket).Put([]byte("k"), []byte("no checksum"))
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get("k"); !errors.Is(err, ErrDamaged) {
		t.Fatalf("err = %v", err)
	}
	s.Close()
	foreign := filepath.Join(t.TempDir(), "other.db")
	if err := os.WriteFile(foreign, []byte("not a database at all"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenBolt(foreign); err == nil {
		t.Fatal("a foreign file was opened")
	}
}
