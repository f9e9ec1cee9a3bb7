package store

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Bolt is a MetaStore in a bbolt file. One transaction costs about two
// fdatasyncs.
type Bolt struct{ db *bbolt.DB }

var (
	metaBucket = []byte("wiber-meta-1") // the format's version is in the bucket's name
	boltOpts   = bbolt.Options{Timeout: time.Second, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType}
)

// OpenBolt opens the store in a file, which it makes if there is none: under a
// temporary name first, because a power cut during bbolt's first write could
// leave a file that cannot be opened.
func OpenBolt(file string) (*Bolt, error) {
	if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
		if err := createBolt(file); err != nil {
			return nil, fmt.Errorf("make %s: %w", file, err)
		}
	}
	opts := boltOpts
	db, err := bbolt.Open(file, 0o600, &opts)
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("open %s: another process has it open", file)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", file, err)
	}
	err = db.View(func(tx *bbolt.Tx) error {
		if tx.Bucket(metaBucket) == nil {
			return errors.New("it is not a manifest of this version of Wiber: use the program that wrote it")
		}
		return nil
	})
	if err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("open %s: %w", file, err)
	}
	return &Bolt{db}, nil
}

func createBolt(file string) error {
	temp := file + ".tmp"
	if err := os.Remove(temp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	opts := boltOpts
	db, err := bbolt.Open(temp, 0o600, &opts)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket(metaBucket)
		return err
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, file); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Get implements MetaStore.
func (b *Bolt) Get(key string) (value []byte, err error) {
	err = b.db.View(func(tx *bbolt.Tx) error {
		raw := tx.Bucket(metaBucket).Get([]byte(key))
		if raw == nil {
			return nil
		}
		value, err = unseal(key, raw)
		return err
	})
	return value, err
}

// Update implements MetaStore.
func (b *Bolt) Update(values map[string][]byte) error {
	if err := checkValues(values); err != nil {
		return err
	}
	return b.db.Update(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket(metaBucket)
		for _, key := range slices.Sorted(maps.Keys(values)) {
			var err error
			if values[key] == nil {
				err = bucket.Delete([]byte(key))
			} else {
				err = bucket.Put([]byte(key), seal(key, values[key]))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Close implements MetaStore.
func (b *Bolt) Close() error { return b.db.Close() }
