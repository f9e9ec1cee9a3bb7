package manifests

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
)

var fieldCache sync.Map // reflect.Type -> map[string]reflect.StructField

// fieldsOf returns the fields of a struct by their JSON names; those of an
// embedded struct without a name of its own count as its own.
func fieldsOf(t reflect.Type) map[string]reflect.StructField {
	if cached, ok := fieldCache.Load(t); ok {
		return cached.(map[string]reflect.StructField)
	}
	fields := map[string]reflect.StructField{}
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" || !directField(t, f) {
			continue
		}
		fields[name] = f
	}
	fieldCache.Store(t, fields)
	return fields
}

// directField reports whether JSON shows f as a field of t itself: all structs
// that it is promoted through are embedded without a name.
func directField(t reflect.Type, f reflect.StructField) bool {
	for i := 1; i < len(f.Index); i++ {
		outer := t.FieldByIndex(f.Index[:i])
		if name, _, _ := strings.Cut(outer.Tag.Get("json"), ","); name != "" {
			return false
		}
	}
	return true
}

// suggestion returns the known field that was probably meant, or the list of
// all if none is near.
func suggestion(word string, fields map[string]reflect.StructField) string {
	names := slices.Sorted(maps.Keys(fields))
	best, distance := "", 3
	for _, name := range names {
		if d := editDistance(strings.ToLower(word), strings.ToLower(name), distance); d < distance {
			best, distance = name, d
		}
	}
	if best != "" {
		return "; did you mean " + best + "?"
	}
	return "; the fields here are " + strings.Join(names, ", ")
}

// editDistance returns how many letters are to be changed, added or removed to
// make b of a, or limit if it is not less.
func editDistance(a, b string, limit int) int {
	if len(a) > len(b)+limit || len(b) > len(a)+limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := diagonal
			if a[i-1] != b[j-1] {
				change++
			}
			diagonal = row[j]
			row[j] = min(change, row[j]+1, row[j-1]+1)
		}
	}
	return min(row[len(b)], limit)
}
