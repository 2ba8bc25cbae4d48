/* SPDX-License-Identifier: Apache-2.0 */
/* Shared within the folder: statements as data, how they are run. */
#ifndef WR_STORE_INT_H
#define WR_STORE_INT_H

#include "db/db.h"
#include "host/store/store.h"

#define WR_PROJ_COLUMNS                                                                  \
	"id,name,tree_vol,repo_vol,uid,gid,exclusive,desired,autostart,created,deleted," \
	"save_began,save_ended,save_ok,\"commit\",snapshot,files,bytes,repo_bytes,used," \
	"settings,holders"
#define WR_OP_COLUMNS                                                                             \
	"id,project,kind,state,asked_by,args,created,started,finished,proc,joined,receipt,error," \
	"step"
#define WR_EVENT_COLUMNS "seq,at,who,project,what,why,detail"
#define WR_TOKEN_COLUMNS "hash,scope,project,purpose,asked,created,expires,used"
#define WR_REPLICA_COLUMNS                                                               \
	"project,node,epoch,seq,scan_started,at,behind_since,tries,next_try,error,hint," \
	"settings_rev,latest"
#define WR_OP_ENDED "state IN ('done','failed','cancelled')"

/* Every statement there is; prepared when first used, then kept. */
#define WR_SQL_TABLE(X)                                                                            \
	X(PROJ_PUT,                                                                                \
	  "INSERT INTO project(" WR_PROJ_COLUMNS                                                   \
	  ") VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19,?20,?21,"   \
	  "?22) ON CONFLICT(id) DO UPDATE SET name=?2,tree_vol=?3,repo_vol=?4,uid=?5,gid=?6,"      \
	  "exclusive=?7,desired=?8,autostart=?9,created=?10,deleted=?11,save_began=?12,"           \
	  "save_ended=?13,save_ok=?14,\"commit\"=?15,snapshot=?16,files=?17,bytes=?18,"            \
	  "repo_bytes=?19,used=?20,settings=?21,holders=?22")                                      \
	X(PROJ_BY_ID, "SELECT " WR_PROJ_COLUMNS " FROM project WHERE id=?1")                       \
	X(PROJ_BY_NAME, "SELECT " WR_PROJ_COLUMNS " FROM project WHERE name=?1")                   \
	X(PROJ_BY_PREFIX,                                                                          \
	  "SELECT " WR_PROJ_COLUMNS " FROM project WHERE id>=?1 AND id<?2 AND (?3 OR deleted=0) "  \
	  "ORDER BY id LIMIT 6")                                                                   \
	X(PROJ_BY_UID,                                                                             \
	  "SELECT " WR_PROJ_COLUMNS " FROM project WHERE uid=?1 AND deleted=0 LIMIT 2")            \
	X(PROJ_NAMES, "SELECT name FROM project WHERE ?1 OR deleted=0")                            \
	X(PROJ_LIVING, "SELECT " WR_PROJ_COLUMNS " FROM project WHERE deleted=0 ORDER BY name")    \
	X(PROJ_TRASHED, "SELECT " WR_PROJ_COLUMNS " FROM project WHERE deleted<>0 ORDER BY name")  \
	X(PROJ_ALL, "SELECT " WR_PROJ_COLUMNS " FROM project ORDER BY name")                       \
	X(PROJ_DESIRED,                                                                            \
	  "SELECT " WR_PROJ_COLUMNS " FROM project WHERE desired=1 AND deleted=0 ORDER BY name")   \
	X(PROJ_DROP, "DELETE FROM project WHERE id=?1")                                            \
	X(TOMB_PUT, "INSERT INTO tombstone(uid,dropped) SELECT uid,?2 FROM project WHERE id=?1")   \
	X(TOMB_TRIM, "DELETE FROM tombstone WHERE dropped<=?1")                                    \
	X(UIDS, "SELECT uid FROM project WHERE uid BETWEEN ?1 AND ?2 UNION "                       \
		"SELECT uid FROM tombstone WHERE uid BETWEEN ?1 AND ?2 AND dropped>?3 "            \
		"ORDER BY uid")                                                                    \
	X(OP_PUT, "INSERT INTO op(" WR_OP_COLUMNS                                                  \
		  ") VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14) "                      \
		  "ON CONFLICT(id) DO UPDATE SET project=?2,kind=?3,state=?4,asked_by=?5,args=?6," \
		  "created=?7,started=?8,finished=?9,proc=?10,joined=?11,receipt=?12,error=?13,"   \
		  "step=?14")                                                                      \
	X(OP_BY_PREFIX,                                                                            \
	  "SELECT " WR_OP_COLUMNS " FROM op WHERE id>=?1 AND id<?2 ORDER BY id LIMIT 2")           \
	X(OP_ALL, "SELECT " WR_OP_COLUMNS " FROM op ORDER BY seq DESC LIMIT ?3")                   \
	X(OP_OF_PROJECT,                                                                           \
	  "SELECT " WR_OP_COLUMNS " FROM op WHERE project=?1 ORDER BY seq DESC LIMIT ?3")          \
	X(OP_OF_STATE,                                                                             \
	  "SELECT " WR_OP_COLUMNS " FROM op WHERE state=?2 ORDER BY seq DESC LIMIT ?3")            \
	X(OP_OF_BOTH, "SELECT " WR_OP_COLUMNS                                                      \
		      " FROM op WHERE project=?1 AND state=?2 ORDER BY seq DESC LIMIT ?3")         \
	X(OP_SURPLUS, "SELECT id FROM op WHERE project=?1 AND " WR_OP_ENDED                        \
		      " ORDER BY seq DESC LIMIT -1 OFFSET ?2")                                     \
	X(OP_DROP, "DELETE FROM op WHERE id=?1")                                                   \
	X(EVENT_PUT,                                                                               \
	  "INSERT INTO event(at,who,project,what,why,detail) VALUES(?1,?2,?3,?4,?5,?6)")           \
	X(EVENT_TRIM, "DELETE FROM event WHERE seq<=(SELECT seq FROM event ORDER BY seq DESC "     \
		      "LIMIT 1 OFFSET ?1)")                                                        \
	X(EVENT_TRIM_OF, "DELETE FROM event WHERE project=?1 AND seq<=(SELECT seq FROM event "     \
			 "WHERE project=?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2)")                  \
	X(EVENT_SINCE,                                                                             \
	  "SELECT " WR_EVENT_COLUMNS " FROM event WHERE seq>?1 ORDER BY seq LIMIT ?3")             \
	X(EVENT_SINCE_OF, "SELECT " WR_EVENT_COLUMNS                                               \
			  " FROM event WHERE project=?2 AND seq>?1 ORDER BY seq LIMIT ?3")         \
	X(EVENT_LAST, "SELECT * FROM (SELECT " WR_EVENT_COLUMNS                                    \
		      " FROM event ORDER BY seq DESC LIMIT ?3) ORDER BY seq")                      \
	X(EVENT_LAST_OF, "SELECT * FROM (SELECT " WR_EVENT_COLUMNS                                 \
			 " FROM event WHERE project=?2 ORDER BY seq DESC LIMIT ?3) ORDER BY seq")  \
	X(REPLICA_PUT, "INSERT INTO replica(" WR_REPLICA_COLUMNS                                   \
		       ") VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13) "                     \
		       "ON CONFLICT(project,node) DO UPDATE SET epoch=?3,seq=?4,scan_started=?5,"  \
		       "at=?6,behind_since=?7,tries=?8,next_try=?9,error=?10,hint=?11,settings_"   \
		       "rev=?12,latest=?13")                                                       \
	X(REPLICA_OF, "SELECT " WR_REPLICA_COLUMNS " FROM replica WHERE project=?1 ORDER BY node") \
	X(REPLICA_BEHIND, "SELECT " WR_REPLICA_COLUMNS                                             \
			  " FROM replica WHERE behind_since<>0 ORDER BY project,node")             \
	X(GROWTH_PUT,                                                                              \
	  "INSERT INTO growth VALUES(?1,?2,?3,?4,?3,?4) ON CONFLICT(project) DO UPDATE SET "       \
	  "before_tree=tree,before_repo=repo,at=?2,tree=?3,repo=?4 WHERE at<=?5")                  \
	X(GROWTH_EACH,                                                                             \
	  "SELECT p.id,p.name,p.tree_vol,p.repo_vol,"                                              \
	  "max(0,p.bytes-CASE WHEN g.at<=?1 THEN g.tree ELSE g.before_tree END),"                  \
	  "max(0,p.repo_bytes-CASE WHEN g.at<=?1 THEN g.repo ELSE g.before_repo END) "             \
	  "FROM project p JOIN growth g ON g.project=p.id")                                        \
	X(GROWTH_DROP, "DELETE FROM growth WHERE project=?1")                                      \
	X(REPLICA_DROP, "DELETE FROM replica WHERE project=?1 AND (?2 IS NULL OR node=?2)")        \
	X(TOKEN_PUT, "INSERT INTO token(hash,scope,project,purpose,asked,created,expires,used) "   \
		     "VALUES(?1,?2,?3,?4,?5,?6,?7,0)")                                             \
	X(TOKEN_REPLACE,                                                                           \
	  "DELETE FROM token WHERE scope=?1 AND project=?2 AND purpose=?3 AND asked=0")            \
	X(TOKEN_BY_HASH, "SELECT scope,project,expires,used FROM token WHERE hash=?1")             \
	X(TOKEN_USED, "UPDATE token SET used=?2 WHERE hash=?1")                                    \
	X(TOKEN_EACH, "SELECT " WR_TOKEN_COLUMNS                                                   \
		      " FROM token WHERE ?1 IS NULL OR project=?1 ORDER BY created,hash")          \
	X(TOKEN_BY_PREFIX,                                                                         \
	  "SELECT " WR_TOKEN_COLUMNS " FROM token WHERE hash>=?1 AND hash<=?2 LIMIT 2")            \
	X(TOKEN_COUNT, "SELECT count(*) FROM token WHERE asked=1 AND (?1 IS NULL OR project=?1)")  \
	X(TOKEN_REVOKE, "DELETE FROM token WHERE hash=?1")                                         \
	X(TOKEN_TRIM, "DELETE FROM token WHERE expires<>0 AND expires<?1")                         \
	X(TOKEN_DROP,                                                                              \
	  "DELETE FROM token WHERE project=?1 AND (?2 IS NULL OR (purpose=?2 AND asked=0))")

enum wr_sql {
#define X(name, text) WR_SQL_##name,
	WR_SQL_TABLE(X)
#undef X
	    WR_SQL_COUNT
};

struct wr_store {
	struct wr_db db;
	bool in_group; /* between begin and commit or abort of the caller */
};

/* Several statements as one change, be there a group of the caller's or not. */
int wr_store_enter(struct wr_store *s, bool *out_own, struct wr_err *err);
/* rc: how the statements ended. Gives rc, or -1 if the change could not be made durable. */
int wr_store_leave(struct wr_store *s, bool own, int rc, struct wr_err *err);

/* The smallest text that is greater than every id that begins with prefix. */
void wr_id_range_end(const char *prefix, char out[40]);

#endif
