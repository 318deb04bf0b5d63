-- Takes the functions of one attached store away again; ${name} as in attach.sql.
DROP MACRO IF EXISTS temp.${name}_topk;
DROP MACRO TABLE IF EXISTS temp.${name}_search;
DROP MACRO IF EXISTS temp.${name}_rerank;
DROP MACRO IF EXISTS temp.${name}_gate;
DROP MACRO TABLE IF EXISTS temp.${name}_verify;
