//! Changing a key: its record and the intents of all its versions, in one commit.

use crate::coordinator::ops::access::Call;
use crate::coordinator::ops::commit::{Done, Draft};
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::keys::{KeyView, subject};
use crate::coordinator::ops::rotate::check_object_label;
use crate::coordinator::ops::status::Directory;
use crate::coordinator::ops::{Ops, dates, intents};
use crate::coordinator::store::Write;
use crate::model::ids::{KeyId, KeyVersionId};
use crate::model::key::ManagedKey;
use crate::model::lifecycle::ManagedState;
use crate::model::template::KeyTemplate;
use crate::model::vault::UnixMs;

impl Ops {
    /// Changes a key's record and whatever that means for its keystores, in one commit. The change is made on what was read;
    /// where somebody else was faster on an instance it is made once more.
    pub(crate) async fn key_change(
        &self,
        call: &Call,
        id: KeyId,
        action: &'static str,
        change: impl Fn(&mut ManagedKey, &KeyTemplate) -> Result<(), OpsError> + Send + Sync,
    ) -> Result<Done<KeyView>, OpsError> {
        if let Some(earlier) = self.earlier(call).await? {
            return self.key_again(earlier).await;
        }
        let mut is_second = false;
        loop {
            let before = self.key_record(id).await?;
            call.check_revision(before.revision)?;
            let template = self.template_record(before.template).await?;
            let mut key = before.clone();
            change(&mut key, &template)?;
            if key == before {
                let view = self.key_view(before, &mut Directory::default()).await?;
                return Ok(self.unchanged(call).done(view));
            }
            if key.label != before.label {
                self.check_label_free(&key).await?;
                self.check_label_fits(&key, &key.targets).await?;
            } else {
                let new = key.targets.difference(&before.targets);
                self.check_label_fits(&key, new).await?;
            }
            check_object_label(&key)?;
            let draft = self
                .change_draft(call, action, &before, &mut key, None)
                .await?;
            match self.commit(call, draft).await {
                Ok(committed) => {
                    let view = self.key_view(key, &mut Directory::default()).await?;
                    return Ok(committed.done(view));
                }
                Err(OpsError::Conflict { .. }) if !is_second => is_second = true,
                Err(OpsError::Conflict { .. }) => {
                    let current = self.key_record(id).await?.revision;
                    return Err(OpsError::EtagMismatch { current });
                }
                Err(error) => return Err(error),
            }
        }
    }

    pub(crate) async fn change_draft(
        &self,
        call: &Call,
        action: &'static str,
        before: &ManagedKey,
        key: &mut ManagedKey,
        made: Option<KeyVersionId>,
    ) -> Result<Draft, OpsError> {
        let at = self.now();
        key.revision = before.revision.next();
        key.stamps.touch(at, &call.principal.name);
        if key.state == ManagedState::Active && before.state == ManagedState::PreActivation {
            self.check_copies(key).await?;
            let template = self.template_record(key.template).await?;
            dates::into_use(key, &template, at)?;
        }
        let mut draft = Draft::new(action, subject(key.id), detail(before, key));
        draft.writes.push(Write::KeyUpdate {
            record: Box::new(key.clone()),
            expected: before.revision,
        });
        self.add_intents(key, made, &mut draft, at).await?;
        // Destroying needs no material, so the copies go in the commit that says so.
        if key.is_erased() && !before.is_erased() {
            let erased = key.version_ids().into_iter();
            draft
                .writes
                .extend(erased.map(|version| Write::CopiesErase { version }));
        }
        Ok(draft)
    }

    /// The intents of all versions of a key, as it is to be, where they are others than now. Of the version whose copy is
    /// `made` in the same commit the material is there.
    async fn add_intents(
        &self,
        key: &ManagedKey,
        made: Option<KeyVersionId>,
        draft: &mut Draft,
        at: UnixMs,
    ) -> Result<(), OpsError> {
        let instances = self.store.key_instances(key.id).await?;
        let vault = self.vault_record(key.vault).await?;
        for of in self.version_wishes(key, &instances).await? {
            let mut writes = Vec::with_capacity(of.wishes.len());
            for wish in of.wishes {
                let known = intents::instance_of(&instances, of.key.version, wish.keystore);
                let write = self
                    .instance_write(&of.key, &vault, wish, known, at)
                    .await?;
                writes.push(write);
            }
            if made != Some(of.key.version) {
                self.check_material(&of.key, &writes).await?;
            }
            draft.writes.extend(writes);
        }
        Ok(())
    }
}

fn detail(before: &ManagedKey, key: &ManagedKey) -> String {
    let mut said = vec![key.label.to_string()];
    if before.label != key.label {
        said.push(format!("renamed from {}", before.label));
    }
    if before.version != key.version {
        let (from, to) = (before.version_number, key.version_number);
        said.push(format!("version {from} to {to}"));
    }
    if before.state != key.state {
        said.push(format!("{} to {}", before.state.name(), key.state.name()));
    }
    let added = key.targets.difference(&before.targets).count();
    let removed = before.targets.difference(&key.targets).count();
    if added + removed > 0 {
        said.push(format!("{added} targets added, {removed} removed"));
    }
    said.join("; ")
}
